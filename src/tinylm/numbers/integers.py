"""Whole numbers of 8, 4, 3 or 2 bits: a weight as ``scale * (code - zero)``.

Jacob et al. 2018, section 2.1. Weights that share a scale are a group: all of a matrix, a row of it
(an output), or a run of ``group_size`` inputs of a row. Two kinds:

- symmetric: there is no ``zero``; codes lie about 0, from ``-2**(bits-1)`` to ``2**(bits-1) - 1``,
  of 8 bits from -127, and the scale is the largest absolute weight over half of their span. Of an
  even number of codes the upper half is one shorter, so that a weight as large as that, and
  positive, is rounded down by half a scale;
- asymmetric: codes are from 0 to ``2**bits - 1``, the scale is the range of the weights, 0
  included, over their span, and ``zero``, the code of 0, is a whole number too.

Either way 0 stays 0 and no weight moves by more than half a scale. A finer group costs more
constants: in groups of 32 a float32 scale is 1 bit a weight, a bfloat16 scale half of that. Scales
in bfloat16 are rounded up, by less than 1 %, so that the largest weight still has a code.

Packed, a code takes ``bits`` bits and no more: see ``pack``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from tinylm.errors import ConfigError, shown
from tinylm.numbers.formats import WeightFormat

Bits = Literal[8, 4, 3, 2]
Granularity = Literal["tensor", "row", "group"]
ScaleFormat = Literal["float32", "bfloat16"]
_LEAST = 1e-12  # range of a group of zeros, which has a scale too


@dataclass(frozen=True)
class IntegerFormat(WeightFormat):
    """A format of whole numbers with scales.

    Shapes: a weight and its codes are (out, in); ``scale`` and ``zero`` are (out, groups of a row),
    or (1, 1) for a whole matrix. ``encode`` and ``decode`` go by the shape of the scale alone, so
    that some columns can be given with the scales of their groups.

    Raises:
        ConfigError: for bits, a granularity or a group that cannot be.
    """

    kind: ClassVar[str] = "integer"

    bits: Bits = 8
    """Of a code."""
    symmetric: bool = True
    """Whether codes lie about 0; else from 0 up, with a code for 0 a group."""
    granularity: Granularity = "row"
    """Weights that share a scale."""
    group_size: int | None = None
    """Inputs that share a scale, where it is by group; it divides the inputs of a row."""
    scale_format: ScaleFormat = "float32"
    """Number format of the scales."""

    def __post_init__(self) -> None:
        if self.bits not in get_args(Bits) or isinstance(self.bits, bool):
            raise ConfigError(f"bits = {shown(self.bits)}: there are formats of 8, 4, 3 and 2 bits")
        for name, kind in (("granularity", Granularity), ("scale_format", ScaleFormat)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(
                    f"{name} = {shown(getattr(self, name))}: allowed: {', '.join(get_args(kind))}"
                )
        if (self.granularity == "group") != (self.group_size is not None):
            raise ConfigError(
                f"granularity = {self.granularity!r} with group_size = {shown(self.group_size)}: "
                "a group needs a size, and nothing else has one"
            )
        if self.group_size is not None and self.group_size < 1:
            raise ConfigError(f"group_size = {self.group_size}: must be at least 1")

    @property
    def lowest(self) -> int:
        """The lowest code."""
        if not self.symmetric:
            return 0
        return -127 if self.bits == 8 else -(1 << self.bits - 1)

    @property
    def highest(self) -> int:
        """The highest code."""
        return (1 << self.bits - self.symmetric) - 1

    def groups(self, in_features: int) -> int:
        """Return how many scales a row of that many inputs has.

        Raises:
            ConfigError: if groups of this size do not divide it.
        """
        size = self.group_size or in_features
        if in_features % size:
            sizes = [n for n in range(1, in_features + 1) if not in_features % n]
            raise ConfigError(
                f"group_size = {size} does not divide a row of {in_features} weights; "
                f"these do: {', '.join(map(str, sizes))}"
            )
        return in_features // size

    def fit(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the scales by which a weight, (out, in), is rounded, and the codes of 0.

        Returns:
            ``scale``, float32 whose values ``scale_format`` holds exactly, and ``zero``, uint8,
            None if symmetric.

        Raises:
            ConfigError: if groups of this size do not divide a row.
        """
        groups = self.groups(weight.shape[1])
        if self.granularity == "tensor":
            grouped = weight.reshape(1, 1, -1)
        else:
            grouped = _grouped(weight, groups)
        low, high = grouped.detach().aminmax(dim=-1)
        return self.of_range(low, high)

    def of_range(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return scale and zero, as ``fit`` does, for numbers between two bounds.

        Args:
            low: lower bounds, of any shape.
            high: upper bounds. 0 is always in the range, whatever they are.
        """
        low, high = low.double().clamp(max=0), high.double().clamp(min=0)
        if self.symmetric:
            high = torch.maximum(-low, high)
            low = -high
        scale = (high - low).clamp(min=_LEAST) / (self.highest - self.lowest)
        scale = scale.float() if self.scale_format == "float32" else _upwards(scale.float())
        if self.symmetric:
            return scale, None
        return scale, (-low / scale).round().clamp(0, self.highest).to(torch.uint8)

    def encode(self, weight: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        """Return the codes nearest to a weight, (out, in), int8, or uint8 if asymmetric.

        What lies outside of the range of the codes takes the nearest of them.
        """
        steps = (_grouped(weight, scale.shape[1]) / scale[..., None]).round()
        if zero is not None:
            steps = steps + zero[..., None]
        kind = torch.int8 if self.symmetric else torch.uint8
        return steps.clamp(self.lowest, self.highest).to(kind).flatten(1)

    def decode(self, codes: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        """Return the weight that codes stand for, (out, in), float32, or the scale's if finer."""
        scale = scale.to(torch.promote_types(scale.dtype, torch.float32))
        steps = _grouped(codes, scale.shape[1]).to(scale.dtype)
        if zero is not None:
            steps = steps - zero[..., None]
        return (steps * scale[..., None]).flatten(1)

    def rounded(self, weight: Tensor) -> Tensor:
        """Return what a weight, (out, in), becomes: fitted, encoded and decoded."""
        scale, zero = self.fit(weight)
        return self.decode(self.encode(weight, scale, zero), scale, zero)

    def pack(self, codes: Tensor) -> Tensor:
        """Put codes, (rows, columns), into bytes: (rows, ``row_bytes(columns)``), uint8.

        Of a code its lowest ``bits`` bits are kept (two's complement if symmetric). They follow
        each other in a row, the first in the highest bits of the first byte: two codes of 4 bits a
        byte, four of 2 bits, eight of 3 bits in three bytes. A row begins with a byte of its own,
        and what is left of its last byte is 0.
        """
        per_word, word_bytes = self._word
        whole = codes.to(torch.int32) & (1 << self.bits) - 1
        words = _joined(whole, self.bits, per_word)
        packed = _split(words, 8, word_bytes)[:, : self.row_bytes(codes.shape[1])]
        return packed.to(torch.uint8).contiguous()

    def unpack(self, packed: Tensor, columns: int) -> Tensor:
        """Return the codes that ``pack`` put into bytes, (rows, columns).

        Args:
            packed: (rows, ``row_bytes(columns)``), uint8.
            columns: of the codes.
        """
        if 8 % self.bits:
            per_word, word_bytes = self._word
            words = _joined(packed.to(torch.int32), 8, word_bytes)
            whole = _split(words, self.bits, per_word).to(torch.uint8)
        else:  # in bytes throughout, which is several times as quick
            whole = _split(packed, self.bits, 8 // self.bits)
        whole = whole[:, :columns]
        if not self.symmetric:
            return whole
        half = 1 << self.bits - 1
        signed: Tensor = (whole ^ half) - half  # modulo 256
        return signed.view(torch.int8)

    def store(self, codes: Tensor, scale: Tensor, zero: Tensor | None = None) -> dict[str, Tensor]:
        """Return what is kept of a weight, as ``quantize`` does, from its codes and constants.

        Args:
            codes: (out, in).
            scale: as ``fit`` gives it.
            zero: likewise.
        """
        kept = {"codes": self.pack(codes), "scale": scale.to(self._scale_dtype)}
        return kept if zero is None else {**kept, "zero": self.pack(zero)}

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """Round each number of a weight, (out, in), to the nearest code.

        Returns:
            ``codes``, packed, (out, ``row_bytes(in)``), uint8; ``scale``, in ``scale_format``; and,
            if asymmetric, ``zero``, packed as the codes of its rows are.
        """
        scale, zero = self.fit(weight)
        return self.store(self.encode(weight, scale, zero), scale, zero)

    def parts(
        self, stored: Mapping[str, Tensor], columns: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return codes, scale and zero of what ``store`` kept of rows of that many weights."""
        scale = stored["scale"]
        zero = self.unpack(stored["zero"], scale.shape[1]) if "zero" in stored else None
        return self.unpack(stored["codes"], columns), scale, zero

    def dequantize(self, stored: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Return the weight, (out, in), that ``quantize`` kept."""
        return self.decode(*self.parts(stored, shape[1]))

    def rows(self, stored: Mapping[str, Tensor], shape: torch.Size, rows: Tensor) -> Tensor:
        """Return some rows, by their numbers, (n,), of the weight: (n, in)."""
        own = {name: kept if len(kept) < shape[0] else kept[rows] for name, kept in stored.items()}
        return self.dequantize(own, torch.Size((len(rows), shape[1])))

    def row_bytes(self, columns: int) -> int:
        """Return the bytes of a packed row of codes."""
        return math.ceil(columns * self.bits / 8)

    def num_bytes(self, shape: tuple[int, int] | torch.Size) -> int:
        """Return the bytes of a matrix, (out, in): packed codes, scales, and packed zeros.

        Raises:
            ConfigError: if groups of this size do not divide a row.
        """
        rows, columns = shape
        groups = self.groups(columns)
        scale_rows = 1 if self.granularity == "tensor" else rows
        zero_bytes = 0 if self.symmetric else self.row_bytes(groups)
        constants = groups * self._scale_dtype.itemsize + zero_bytes
        return rows * self.row_bytes(columns) + scale_rows * constants

    @property
    def label(self) -> str:
        """What the format is, for a reader."""
        shared = {"tensor": "by matrix", "row": "by row", "group": f"groups of {self.group_size}"}
        about = "symmetric" if self.symmetric else "asymmetric"
        return f"{self.bits}-bit integers, {about}, {shared[self.granularity]}"

    @property
    def _scale_dtype(self) -> torch.dtype:
        return torch.float32 if self.scale_format == "float32" else torch.bfloat16

    @property
    def _word(self) -> tuple[int, int]:
        """Codes of the shortest run that fills whole bytes, and how many bytes."""
        codes = 8 // math.gcd(8, self.bits)
        return codes, codes * self.bits // 8


INT8 = IntegerFormat(8, symmetric=True, granularity="row")
"""8 bits with one scale for each output, as the kernels of torch and ours take them."""


def _grouped(values: Tensor, groups: int) -> Tensor:
    """Return (rows, columns) as (rows, groups, columns of a group)."""
    return values.reshape(len(values), groups, -1)


def _joined(parts: Tensor, bits: int, count: int) -> Tensor:
    """Return whole numbers, (rows, columns), as longer ones of ``count`` each, the first on top."""
    padded = nn.functional.pad(parts, (0, -parts.shape[1] % count))
    places = _shifts(bits, count, parts.device)
    return (padded.view(len(parts), -1, count) << places).sum(-1, dtype=torch.int32)


def _split(words: Tensor, bits: int, count: int) -> Tensor:
    """Return the ``count`` parts of each of ``words``, (rows, columns): (rows, parts)."""
    parts: Tensor = words[..., None] >> _shifts(bits, count, words.device).to(words.dtype)
    return (parts & (1 << bits) - 1).flatten(1)


def _shifts(bits: int, count: int, device: torch.device) -> Tensor:
    """Return how far up each of ``count`` parts of a word stands, the first highest."""
    return torch.arange(bits * (count - 1), -1, -bits, dtype=torch.int32, device=device)


def _upwards(scale: Tensor) -> Tensor:
    """Return positive float32 numbers as the next that bfloat16 holds, or themselves."""
    bits: Tensor = (scale.view(torch.int32) + 0xFFFF) & ~0xFFFF
    return bits.view(torch.float32)
