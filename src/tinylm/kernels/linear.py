"""A linear map in bfloat16 with the gradients of float32 parameters, and ReLU with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import carray
from torch import Tensor
from torch.autograd.function import once_differentiable

from tinylm.kernels.launch import Kernel, address, inline, next_block, store, widen

_PARTS = 16
"""Into which the rows are cut: the gradient of the bias is summed in each, then over them."""


@inline
def _relu_backwards(table, gradient, out, found, sums):
    parts, rows = table[1], len(gradient)
    while True:
        part = next_block(table)
        if part >= parts:
            break
        total = sums[part]
        total[:] = 0
        for i in range(part * rows // parts, (part + 1) * rows // parts):
            given, shown, kept = gradient[i], out[i], found[i]
            for j in range(len(given)):
                # A bfloat16 above 0 is an integer above 0, read with its sign.
                slope = widen(given[j]) if np.int16(shown[j]) > 0 else np.float32(0)
                total[j] += slope
                store(kept, j, slope)


def _entry(a):
    parts, rows, size = a[1], a[6], a[7]
    _relu_backwards(
        a,
        carray(address(a[2]), (rows, size), np.uint16),
        carray(address(a[3]), (rows, size), np.uint16),
        carray(address(a[4]), (rows, size), np.uint16),
        carray(address(a[5]), (parts, size), np.float32),
    )


_RELU_BACKWARDS = Kernel(_entry)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
        matrix = weight.to(torch.bfloat16)
        shift = None if bias is None else bias.to(torch.bfloat16)
        post = "relu" if relu else "none"
        out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, matrix, shift, post, [], "")
        wants_x, wants_weight, *_ = ctx.needs_input_grad
        ctx.save_for_backward(
            rows if wants_weight else None, matrix if wants_x else None, out if relu else None
        )
        ctx.kinds = x.dtype, weight.dtype
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, matrix, out = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        given = gradient.reshape(-1, gradient.shape[-1]).contiguous()
        if out is None:
            to_bias = given.sum(0, dtype=torch.float32) if wants_bias else None
        else:
            sums = torch.empty(_PARTS, given.shape[1])
            found = torch.empty_like(given)
            _RELU_BACKWARDS(_PARTS, given, out, found, sums, *given.shape)
            given, to_bias = found, sums.sum(0) if wants_bias else None
        to_x = to_weight = None
        if wants_x:
            to_x = (given @ matrix).to(ctx.kinds[0]).view(*gradient.shape[:-1], -1)
        if wants_weight:
            # The matrix with more rows is quicker; its other form is a copy, as the conversion is.
            wide = rows.shape[1] > given.shape[1]
            product = (rows.T @ given).T if wide else given.T @ rows
            to_weight = product.to(ctx.kinds[1], memory_format=torch.contiguous_format)
        return to_x, to_weight, to_bias, None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
    """Return ``x @ weight.T + bias``, or ReLU of it, computed and given in bfloat16.

    Args:
        x: (..., in), float32 or bfloat16.
        weight: (out, in), float32.
        bias: (out,), float32, or None.
        relu: whether to set what is below 0 to 0.
    """
    out: Tensor = _Linear.apply(x, weight, bias, relu)
    return out
