"""4-bit NormalFloat: weights as one of 16 quantiles of a normal distribution, times a constant.

Dettmers et al. 2023 (QLoRA), section 3. A block of 64 weights is divided by its largest absolute
value, the block's constant, and each weight becomes the nearest of 16 code values, which are as
likely as each other where weights are normal. The constants of the blocks are quantized once more:
their mean is taken off, and what is left goes to 8 bits in blocks of 256, each with a float32 scale
of its own. A weight then takes 4 bits and (8 + 32/256) / 64 = 0.127 bits of constants.

The paper keeps the 8 bits as a small float; here they are a whole number from -127 to 127 times the
scale, whose error is at most 1/254 of the largest deviation among 256 constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar

import torch
from torch import Tensor, nn

from tinylm.errors import ConfigError, shown
from tinylm.numbers.formats import WeightFormat

CONSTANTS_BLOCK = 256
"""Constants that share one scale."""
_LARGEST = 127


def _code_book() -> Tensor:
    """Return the 16 code values, ascending, from -1 to 1 with an exact 0.

    Eight positive and seven negative quantiles, evenly spread over each half of the distribution
    (section 3 and appendix E). The outermost probability is the mean of 1 - 1/32 and 1 - 1/30, the
    midpoints of the last of 16 and of the last of 15 equal shares.
    """
    outermost = 1 - (1 / 32 + 1 / 30) / 2

    def quantiles(count: int) -> list[float]:
        step = (outermost - 0.5) / count
        return [NormalDist().inv_cdf(outermost - i * step) for i in range(count)]

    values = [-value for value in quantiles(7)] + [0.0] + quantiles(8)
    largest = max(values)
    return torch.tensor(sorted(value / largest for value in values))


CODE_BOOK = _code_book()
"""The 16 values of the 4 bits, (16,), float32."""


@dataclass(frozen=True)
class NormalFloat(WeightFormat):
    """The format of 4-bit NormalFloat; blocks are runs of a weight in reading order.

    The last block may be shorter. A weight may have any shape.

    Raises:
        ConfigError: for a block that cannot be.
    """

    kind: ClassVar[str] = "normal-float"

    block_size: int = 64
    """Weights that share a constant."""
    double: bool = True
    """Whether the constants are quantized as well."""

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise ConfigError(f"block_size = {shown(self.block_size)}: must be at least 1")

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """Return what is kept of a weight.

        Returns:
            ``codes``, two a byte, the first in the higher bits, (weights / 2,), uint8;
            ``constants``, (blocks,), float32, or int8 if they are quantized; then ``scales``,
            (blocks / 256,), float32, and their ``mean``, a scalar, too.
        """
        blocks = _padded(weight.detach().flatten().float(), self.block_size)  # (blocks, size)
        constants = blocks.abs().amax(1)
        stored = {"constants": constants}
        if self.double:
            mean = constants.mean()
            groups = _padded(constants - mean, CONSTANTS_BLOCK)
            scales = groups.abs().amax(1) / _LARGEST
            steps = (groups / _nonzero(scales)[:, None]).round()
            steps = steps.flatten()[: len(constants)].to(torch.int8)
            stored = {"scales": scales, "mean": mean, "constants": steps}
        # Codes are chosen for the constants as they will be read.
        shares = blocks / _nonzero(_read_constants(stored))[:, None]
        book = CODE_BOOK.to(weight.device)
        nearest = torch.bucketize(shares, (book[1:] + book[:-1]) / 2)
        flat = nearest.flatten()[: weight.numel()].to(torch.uint8)
        flat = nn.functional.pad(flat, (0, flat.numel() % 2))
        return {**stored, "codes": flat[::2] << 4 | flat[1::2]}

    def dequantize(self, stored: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Return the weights that the codes stand for, float32."""
        codes = stored["codes"]
        nibbles = torch.stack([codes >> 4, codes & 15], 1).flatten()
        count = shape.numel()
        values = CODE_BOOK.to(codes.device)[nibbles[:count].long()]
        blocks = _padded(values, self.block_size) * _read_constants(stored)[:, None]
        return blocks.flatten()[:count].view(shape)

    def rows(self, stored: Mapping[str, Tensor], shape: torch.Size, rows: Tensor) -> Tensor:
        """Return some rows, by their numbers, (n,), of a weight of two dimensions."""
        columns = torch.arange(shape[1], device=rows.device)
        places = rows[:, None] * shape[1] + columns  # (n, in), in reading order
        nibbles = stored["codes"][places // 2] >> (4 * (1 - places % 2)).to(torch.uint8) & 15
        constants = _read_constants(stored)[places // min(self.block_size, shape.numel())]
        return CODE_BOOK.to(rows.device)[nibbles.long()] * constants

    def num_bytes(self, shape: torch.Size) -> int:
        """Return the bytes of the codes and of all constants."""
        count = shape.numel()
        blocks = -(-count // self.block_size)
        constants = blocks + 4 * -(-blocks // CONSTANTS_BLOCK) + 4 if self.double else 4 * blocks
        return -(-count // 2) + constants

    @property
    def label(self) -> str:
        """What the format is, for a reader."""
        twice = ", constants in 8 bits" if self.double else ""
        return f"4-bit NormalFloat, blocks of {self.block_size}{twice}"


def _read_constants(stored: Mapping[str, Tensor]) -> Tensor:
    """Return the constant of each block, (blocks,), float32."""
    constants = stored["constants"].float()
    if "scales" not in stored:
        return constants
    groups = _padded(constants, CONSTANTS_BLOCK) * stored["scales"][:, None].float()
    return groups.flatten()[: len(constants)] + stored["mean"]


def _padded(values: Tensor, size: int) -> Tensor:
    """Return a flat tensor as rows of ``size``, or of all it has, the last one filled up with 0."""
    size = min(size, max(1, len(values)))
    return nn.functional.pad(values, (0, -len(values) % size)).view(-1, size)


def _nonzero(values: Tensor) -> Tensor:
    """Return values with 1 in place of 0, to divide by: a block of zeros has zeros for shares."""
    return torch.where(values == 0, 1.0, values)
