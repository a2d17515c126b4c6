"""Quantized linear maps, quick: multiplied as whole numbers from codes laid out for the processor.

The codes of a map are brought into the order of the loops once (``loops.codes``), with a byte for
each code of 8 bits and half of one for each that is shorter: nothing is kept in floating point but
the scales. Inputs are multiplied as whole numbers of 24 bits, by the largest of their row, so that
the result is that of float32 to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinylm.fast import loops
from tinylm.fast.kept import kept, numbers_of
from tinylm.fast.onednn import onednn_linear, pack
from tinylm.numbers.integers import IntegerFormat
from tinylm.numbers.linear import LinearMap
from tinylm.numbers.quantized import QuantizedLinear, QuantizedWeight

if TYPE_CHECKING:
    from tinylm.fast.loops.matrices import Linear, Matrix

MANY = 128
"""Rows of inputs that codes multiply at once, so that a core's cache holds them."""


class CodedLinear(QuantizedLinear):
    """A quantized map that is multiplied from its codes.

    Where the loops cannot read them (NormalFloat, inputs that are rounded to 8 bits, a row of very
    many inputs, no numba) a copy in float32 is packed when it first multiplies, and takes the room
    of the map as it was before it was quantized.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``, (..., in), to (..., out)."""
        if (torch.is_grad_enabled() and x.requires_grad) or not x.is_cpu:
            return super().forward(x)
        linear = self._from_codes() if loops.available() else None
        if linear is None:
            weight, bias = kept(self, "packed", _state(self), self._pack)
            return onednn_linear(self.multiplied(x.float()), weight, bias)
        rows = x.reshape(-1, self.in_features)
        parts = [linear(rows[i : i + MANY]) for i in range(0, max(len(rows), 1), MANY)]
        return torch.cat(parts).view(*x.shape[:-1], self.out_features)

    def _pack(self) -> tuple[Tensor, Tensor | None]:
        return pack(self.quantized()), None if self.bias is None else self.bias.detach()

    def _from_codes(self) -> Linear | None:
        def make() -> Linear | None:
            matrix = matrix_of_codes(self)
            return None if matrix is None else loops.matrices.Linear(matrix, self.in_features)

        return kept(self, "linear", _state(self), make)


CODED: tuple[type[QuantizedLinear], ...] = (QuantizedLinear, CodedLinear)
"""Quantized maps that are nothing but that."""


def matrix_of_codes(linear: QuantizedLinear) -> Matrix | None:
    """Return a quantized map as the loops read it, or None if they cannot.

    It is kept with the map, and given again as long as nothing has changed.
    """
    return kept(linear, "matrix", _state(linear), lambda: _laid_out(linear))


def _on_cpu(weight: QuantizedWeight) -> bool:
    return all(held.is_cpu for held in weight.stored.values())


def rows_by_number(
    weight: QuantizedWeight,
) -> Callable[[Sequence[int]], NDArray[np.float32]] | None:
    """Return a function that gives rows of a weight by their numbers, (n, in), float32.

    None: the weight is not on a CPU.

    A code takes a byte: a row of a step costs a few additions. Of codes that are no whole numbers
    (NormalFloat) a copy in float32 is kept.
    """
    if not _on_cpu(weight):
        return None
    form = weight.form
    if not isinstance(form, IntegerFormat):
        table = weight().float().numpy()
        return lambda rows: table.take(rows, 0)
    parts = form.parts(weight.stored, weight.shape[1])
    codes = parts[0].numpy()
    scales, zeros = (
        None if each is None else each.float().expand(len(codes), -1).numpy() for each in parts[1:]
    )
    assert scales is not None
    groups = scales.shape[1]

    def rows_of(rows: Sequence[int]) -> NDArray[np.float32]:
        steps = codes.take(rows, 0).astype(np.float32).reshape(len(rows), groups, -1)
        if zeros is not None:
            steps -= zeros.take(rows, 0)[..., None]
        steps *= scales.take(rows, 0)[..., None]
        return steps.reshape(len(rows), -1)

    return rows_of


def whole_matrix_of(linear: QuantizedLinear) -> Matrix | None:
    """Return a quantized map as the loops read it, in float32, or None if they cannot.

    For codes that are no whole numbers (NormalFloat): a step of decoding is one call all the same.
    """
    if not linear.by_weight or linear.input_scale is not None or not _on_cpu(linear.quantized):
        return None

    def make() -> Matrix:
        return loops.matrices.Matrix(linear.quantized().float().contiguous(), bias_of(linear))

    return kept(linear, "whole", _state(linear), make)


def _laid_out(linear: QuantizedLinear) -> Matrix | None:
    form = linear.quantized.form
    if not isinstance(form, IntegerFormat) or not linear.by_weight or not _on_cpu(linear.quantized):
        return None
    codes, scale, zero = form.parts(linear.quantized.stored, linear.in_features)
    if linear.in_features // scale.shape[1] > loops.matrices.LONGEST_GROUP:
        return None
    divisor = linear.input_scale
    return loops.matrices.coded(
        codes,
        bias_of(linear),
        scale.float(),
        zero,
        None if divisor is None else divisor.float().contiguous(),
        form.bits,
        digits=3,  # inputs are not to be rounded
    )


def bias_of(linear: LinearMap) -> Tensor:
    """Return the bias of a linear map, float32, of zeros if it has none."""
    if linear.bias is None:
        return torch.zeros(linear.out_features)
    return linear.bias.detach().float().contiguous()


def _state(linear: QuantizedLinear) -> list[Any]:
    return [numbers_of(linear), numbers_of(linear.quantized)]
