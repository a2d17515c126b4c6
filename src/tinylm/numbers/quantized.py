"""Weights that are kept in a number format of few bits, and the modules that compute with them.

``QuantizedWeight`` holds what its format keeps as buffers, and nothing else: no parameter, so that
nothing trains it, and its ``state_dict`` is as long as the format says. It is dequantized whenever
it is used; the quick forms (``fast``) keep what they make of it, or read the packed codes.

The buffers of whole numbers (``integers``), for a weight of (out, in):

- ``codes``, uint8, (out, ceil(in * bits / 8)): row by row, so that the groups of a row lie
  together; the first code of a row in the highest bits of its first byte. Of a symmetric format in
  two's complement, so that 8 bits are plain int8;
- ``scale``, float32 or bfloat16, (out, groups of a row), or (1, 1) for all of the matrix;
- ``zero``, uint8, for asymmetric formats only: the whole numbers that stand for 0, as many as there
  are scales, packed by row as the codes are.

The weight is ``scale * (code - zero)``. Those of NormalFloat are told in ``nf4``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any, Literal, get_type_hints

import torch
from pydantic import with_config
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from typing_extensions import TypedDict

from tinylm.errors import ConfigError, nearest, shown
from tinylm.numbers.formats import WeightFormat
from tinylm.numbers.integers import IntegerFormat
from tinylm.numbers.linear import LinearLike, LinearMap
from tinylm.numbers.nf4 import NormalFloat
from tinylm.reading import checked, refusal

FORMATS: dict[str, type[WeightFormat]] = {kind.kind: kind for kind in (IntegerFormat, NormalFloat)}
"""Formats by their names in a file."""
Rounding = Literal["dynamic", "static"]
"""How inputs are rounded to 8 bits: by the range of each row, or by one range for all."""
INPUTS = IntegerFormat(8, symmetric=False, granularity="row")
"""Format that inputs are rounded to."""


def format_settings(form: WeightFormat) -> dict[str, Any]:
    """Return a format as JSON values, its name as ``kind``."""
    return {"kind": form.kind, **asdict(form)}  # type: ignore[call-overload]


def format_of(settings: Mapping[str, Any]) -> WeightFormat:
    """Return the format that ``format_settings`` wrote, which a file may have got wrong.

    Raises:
        ConfigError: for a format that is not known or cannot be.
    """
    about = dict(settings)
    name = about.pop("kind", None)
    if not isinstance(name, str) or name not in FORMATS:
        raise ConfigError(f"unknown number format {shown(name)}{nearest(str(name), FORMATS)}")
    kind = FORMATS[name]
    return kind(**checked(_fields(kind), about, refusal(f"format {name}", ConfigError)))


@functools.cache
def _fields(kind: type[WeightFormat]) -> Any:
    """Return the type of a format's fields as a file holds them."""
    hints = get_type_hints(kind)
    types = {field.name: hints[field.name] for field in fields(kind)}  # type: ignore[arg-type]
    return with_config(extra="forbid")(TypedDict(kind.__name__, types))  # type: ignore[operator]


class QuantizedWeight(nn.Module):
    """A frozen matrix in a number format: buffers alone, no parameter."""

    def __init__(
        self, weight: Tensor, form: WeightFormat, stored: Mapping[str, Tensor] | None = None
    ) -> None:
        """Quantize.

        Args:
            weight: (out, in), or what the format takes.
            form: in which it is kept.
            stored: what is kept, in place of the codes that are nearest: as ``form.quantize`` gives
                it for this shape.

        Raises:
            ConfigError: if the format does not suit the shape.
        """
        super().__init__()
        self.form = form
        self.shape = weight.shape
        self.dtype = weight.dtype
        for name, kept in (stored or form.quantize(weight.detach())).items():
            self.register_buffer(name, kept)

    def forward(self) -> Tensor:
        """Return the weight that is kept, in the shape and format that it had."""
        return self.form.dequantize(self.stored, self.shape).to(self.dtype)

    def rows(self, rows: Tensor) -> Tensor:
        """Return some rows of the weight, (..., in), by their numbers, (...), int64."""
        wanted = self.form.rows(self.stored, self.shape, rows.flatten())
        return wanted.to(self.dtype).view(*rows.shape, -1)

    @property
    def stored(self) -> dict[str, Tensor]:
        """What is kept, by name."""
        return dict(self.named_buffers())

    @property
    def num_weights(self) -> int:
        """Numbers that it stands for."""
        return self.shape.numel()

    @property
    def num_bytes(self) -> int:
        """Bytes of all that is kept."""
        return sum(kept.numel() * kept.element_size() for kept in self.stored.values())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedWeight:
        """Move with the model; what is kept stays in its format, whatever the model computes in."""
        for name, kept in self.stored.items():
            moved = fn(kept)
            self._buffers[name] = moved if moved.dtype == kept.dtype else kept.to(moved.device)
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        return self


class QuantizedLinear(LinearLike):
    """A frozen linear map whose weight is kept in few bits.

    Its input may be divided by a scale for each number of it, which its weight was multiplied by
    before it was rounded (AWQ, SmoothQuant), and may then be rounded to 8 bits itself.
    """

    input_scale: Tensor | None
    """(in,): the input is divided by it."""
    input_range: Tensor | None
    """(2,): least and largest number of the divided input that has a code; None: each row's own."""

    def __init__(
        self,
        linear: LinearMap,
        weight: WeightFormat | QuantizedWeight,
        input_scale: Tensor | None = None,
        rounding: Rounding | None = None,
        input_range: Tensor | None = None,
    ) -> None:
        """Quantize the weight of a linear map; its bias stays the same tensor.

        Args:
            linear: the map.
            weight: the format of its weight times the scale of the input, or that weight itself,
                quantized already, which another module may hold as well.
            input_scale: (in,); None: all 1.
            rounding: of the input to 8 bits; None: none.
            input_range: (2,), for static rounding.

        Raises:
            ConfigError: if the format does not suit the weight.
        """
        super().__init__()
        if isinstance(weight, QuantizedWeight):
            self.quantized = weight
        else:
            scaled = linear.weight if input_scale is None else linear.weight * input_scale
            self.quantized = QuantizedWeight(scaled, weight)
        if (rounding == "static") != (input_range is not None):
            raise ValueError("static rounding needs a range, and nothing else has one")
        self.rounding = rounding
        self.register_buffer("input_scale", input_scale)
        self.register_buffer("input_range", input_range)
        self.bias = linear.bias
        self.train(linear.training)

    @property
    def in_features(self) -> int:
        """Width of the input."""
        return self.quantized.shape[1]

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return self.quantized.shape[0]

    @property
    def weight(self) -> Tensor:
        """The dequantized weight over the scale of the input, (out, in), computed when asked for.

        It does what the module does, but for the rounding of inputs.
        """
        weight: Tensor = self.quantized()
        return weight if self.input_scale is None else weight / self.input_scale.to(weight.dtype)

    @property
    def by_weight(self) -> bool:
        """Whether the map is ``x @ weight.T + bias``: its input is not rounded."""
        return self.rounding is None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``, (..., in), to (..., out)."""
        product: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias.to(product.dtype)

    def multiplied(self, x: Tensor) -> Tensor:
        """Return what the codes multiply: the input over its scale, rounded if it is to be."""
        if self.input_scale is not None:
            x = x / self.input_scale.to(x.dtype)
        if self.rounding is None:
            return x
        rows = x.reshape(-1, x.shape[-1])
        if self.input_range is None:
            scale, zero = INPUTS.fit(rows)
        else:
            scale, zero = INPUTS.of_range(*self.input_range.view(2, 1, 1))
        rounded = INPUTS.decode(INPUTS.encode(rows, scale, zero), scale, zero)
        return rounded.to(x.dtype).view_as(x)


class _Product(torch.autograd.Function):
    """``x @ W.T`` that keeps nothing: the backward pass dequantizes W again.

    Dettmers et al. 2023, section 3. Where the input is rounded, its gradient is that of the input
    as it was (the straight-through estimator, Bengio, Léonard and Courville 2013).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: QuantizedLinear) -> Tensor:
        ctx.linear, ctx.dtype = linear, x.dtype
        # Under autocast in its format, as that of any linear map.
        weight = linear.quantized().to(_format(x))
        return nn.functional.linear(linear.multiplied(x), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        product = gradient @ ctx.linear.weight.to(gradient.dtype)
        return product.to(ctx.dtype), None


def _format(x: Tensor) -> torch.dtype:
    """Return the number format in which a product with ``x`` is computed."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class QuantizedEmbedding(nn.Module):
    """A frozen table of embeddings that is kept in few bits; rows are dequantized as they are used.

    Args:
        weight: of the table, (vocabulary, hidden); a linear map may hold it as well.
    """

    def __init__(self, weight: QuantizedWeight) -> None:
        super().__init__()
        self.quantized = weight

    @property
    def num_embeddings(self) -> int:
        """Rows."""
        return self.quantized.shape[0]

    @property
    def embedding_dim(self) -> int:
        """Width of a row."""
        return self.quantized.shape[1]

    @property
    def weight(self) -> Tensor:
        """The dequantized table, (vocabulary, hidden), computed when asked for."""
        weight: Tensor = self.quantized()
        return weight

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows of ids, (...): (..., hidden)."""
        return self.quantized.rows(ids)
