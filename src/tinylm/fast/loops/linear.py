"""A linear map in bfloat16 with the gradients of float32 parameters, and ReLU with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import carray
from torch import Tensor
from torch.autograd.function import once_differentiable

from tinylm.fast.autograd import apply
from tinylm.fast.loops.launch import Kernel, address, next_block, store, sum_when_last, widen

_PARTS = 16
"""Into which the rows are cut: the gradient of the bias is summed in each, then over them."""


def _relu_entry(a):
    parts, rows, size = a[1], a[2], a[3]
    gradient = carray(address(a[4]), (rows, size), np.uint16)
    out = carray(address(a[5]), (rows, size), np.uint16)
    masked = carray(address(a[6]), (rows, size), np.uint16)
    sums = carray(address(a[7]), (parts, size), np.float32)
    to_bias = carray(address(a[8]), (size,), np.float32)
    while True:
        part = next_block(a)
        if part >= parts:
            break
        total = sums[part]
        total[:] = 0
        for i in range(part * rows // parts, (part + 1) * rows // parts):
            given, shown, kept = gradient[i], out[i], masked[i]
            for j in range(size):
                # A bfloat16 above 0 is an integer above 0, read with its sign.
                slope = widen(given[j]) if np.int16(shown[j]) > 0 else np.float32(0)
                total[j] += slope
                store(kept, j, slope)
        sum_when_last(a, 9, sums, to_bias)


def _sum_entry(a):
    parts, rows, size = a[1], a[2], a[3]
    gradient = carray(address(a[4]), (rows, size), np.uint16)
    sums = carray(address(a[5]), (parts, size), np.float32)
    to_bias = carray(address(a[6]), (size,), np.float32)
    while True:
        part = next_block(a)
        if part >= parts:
            break
        total = sums[part]
        total[:] = 0
        for i in range(part * rows // parts, (part + 1) * rows // parts):
            given = gradient[i]
            for j in range(size):
                total[j] += widen(given[j])
        sum_when_last(a, 7, sums, to_bias)


_RELU_BACKWARDS, _SUM_ROWS = Kernel(_relu_entry), Kernel(_sum_entry)


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
        to_x = to_weight = to_bias = None
        sums, total = torch.empty(_PARTS, given.shape[1]), torch.empty(given.shape[1])
        if out is not None:
            masked = torch.empty_like(given)
            _RELU_BACKWARDS(_PARTS, *given.shape, given, out, masked, sums, total, 0)
            given, to_bias = masked, total if wants_bias else None
        elif wants_bias:
            _SUM_ROWS(_PARTS, *given.shape, given, sums, total, 0)
            to_bias = total
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
    out: Tensor = apply(_Linear, x, weight, bias, relu)
    return out
