"""LayerNorm, alone or with the residual sum and the dropout that come before it.

In mixed precision a result is given twice, in float32 and in bfloat16: the stream goes on in one,
and products take the other. Backwards both gradients are added as they are read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import carray
from torch import Tensor
from torch.autograd.function import once_differentiable

from tinylm.fast.autograd import apply
from tinylm.fast.loops.dropout import fill_random, keep, scale_of
from tinylm.fast.loops.launch import (
    address,
    blocks_of,
    by_format,
    inline,
    next_block,
    real,
    store,
    sum_when_last,
    widen,
)

_ROWS = 64
"""A block: a multiple of 4, so that it begins with a whole random number. The gradients of weight
and bias are summed in each, then over the blocks."""
_COUNTER = 14  # its place in the table


@inline
def _forwards(table, x, y, weight, bias, out, low, normal, scales, eps, draw, dropped):
    scale = scale_of(dropped)
    rows, size = x.shape
    random = np.empty(_ROWS * size // 4, np.uint64)
    bits = random.view(np.uint16)
    total = np.empty(size, np.float32)
    while True:
        block = next_block(table)
        if block >= table[1]:
            break
        first = block * _ROWS
        if dropped:
            fill_random(random, first * size // 4, draw)
        for row in range(first, min(first + _ROWS, rows)):
            mine = bits[(row - first) * size : (row - first + 1) * size]
            if len(y):
                for j in range(size):
                    total[j] = x[row, j] + widen(y[row, j]) * keep(mine[j], dropped, scale)
            else:
                for j in range(size):
                    total[j] = x[row, j]
            mean = np.float32(0)
            for j in range(size):
                mean += total[j]
            mean /= np.float32(size)
            square = np.float32(0)
            for j in range(size):
                total[j] -= mean
                square += total[j] * total[j]
            rate = np.float32(1) / np.sqrt(square / np.float32(size) + eps)
            scales[row] = rate
            for j in range(size):
                normalised = total[j] * rate
                normal[row, j] = normalised
                out[row, j] = normalised * weight[j] + bias[j]
            if len(low):
                copy = low[row]
                for j in range(size):
                    store(copy, j, out[row, j])


@inline
def _backwards(
    table, gradient, also, normal, scales, weight, to_x, to_y, sums, whole, draw, dropped
):
    scale = scale_of(dropped)
    rows, size = normal.shape
    random = np.empty(_ROWS * size // 4, np.uint64)
    bits = random.view(np.uint16)
    given = np.empty(size, np.float32)
    while True:
        block = next_block(table)
        if block >= table[1]:
            break
        first = block * _ROWS
        if dropped:
            fill_random(random, first * size // 4, draw)
        to_weight, to_bias = sums[block, 0], sums[block, 1]
        to_weight[:] = 0
        to_bias[:] = 0
        for row in range(first, min(first + _ROWS, rows)):
            if len(also):
                for j in range(size):
                    given[j] = gradient[row, j] + widen(also[row, j])
            else:
                for j in range(size):
                    given[j] = gradient[row, j]
            mean, along = np.float32(0), np.float32(0)
            for j in range(size):  # sums in a loop that writes nothing (``launch``)
                g = given[j] * weight[j]
                mean += g
                along += g * normal[row, j]
            for j in range(size):
                to_bias[j] += given[j]
                to_weight[j] += given[j] * normal[row, j]
            mean /= np.float32(size)
            along /= np.float32(size)
            rate = scales[row]
            for j in range(size):
                slope = given[j] * weight[j] - mean - normal[row, j] * along
                to_x[row, j] = slope * rate
            if len(to_y):
                mine = bits[(row - first) * size : (row - first + 1) * size]
                for j in range(size):
                    store(to_y[row], j, to_x[row, j] * keep(mine[j], dropped, scale))
        sum_when_last(table, _COUNTER, sums, whole)


def _forward_entry(numbers):
    def entry(a):
        rows, size = a[9], a[10]
        _forwards(
            a,
            carray(address(a[2]), (rows, size), np.float32),
            carray(address(a[3]), (rows if a[3] else 0, size), numbers),
            carray(address(a[4]), (size,), np.float32),
            carray(address(a[5]), (size,), np.float32),
            carray(address(a[6]), (rows, size), np.float32),
            carray(address(a[14]), (rows if a[14] else 0, size), np.uint16),
            carray(address(a[7]), (rows, size), np.float32),
            carray(address(a[8]), (rows,), np.float32),
            np.float32(real(a[11])),
            a[12],
            np.int32(a[13]),
        )

    return entry


def _backward_entry(numbers):
    def entry(a):
        rows, size = a[9], a[10]
        _backwards(
            a,
            carray(address(a[2]), (rows, size), np.float32),
            carray(address(a[15]), (rows if a[15] else 0, size), np.uint16),
            carray(address(a[3]), (rows, size), np.float32),
            carray(address(a[4]), (rows,), np.float32),
            carray(address(a[5]), (size,), np.float32),
            carray(address(a[6]), (rows, size), np.float32),
            carray(address(a[7]), (rows if a[7] else 0, size), numbers),
            carray(address(a[8]), (a[1], 2, size), np.float32),
            carray(address(a[11]), (2, size), np.float32),
            a[12],
            np.int32(a[13]),
        )

    return entry


_FORWARDS, _BACKWARDS = by_format(_forward_entry), by_format(_backward_entry)


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        eps: float,
        draw: int,
        dropped: int,
    ) -> tuple[Tensor, Tensor | None]:
        x, y = x.contiguous(), None if y is None else y.contiguous()
        number = x.dtype if y is None else y.dtype
        rows, size = x.shape[:-1].numel(), x.shape[-1]
        out, normal, scales = torch.empty_like(x), torch.empty_like(x), torch.empty(rows)
        shift = torch.zeros_like(weight) if bias is None else bias
        low = torch.empty_like(x, dtype=number) if number == torch.bfloat16 else None
        _FORWARDS[number](
            blocks_of(_ROWS, rows),
            *(x, 0 if y is None else y, weight, shift, out, normal, scales, rows, size),
            *(eps, draw, dropped, 0 if low is None else low),
        )
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(normal, scales, weight)
        ctx.drawn, ctx.format, ctx.sums = (draw, dropped), number, y is not None
        return out, low

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: Tensor | None, also: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        normal, scales, weight = ctx.saved_tensors
        if gradient is None:
            gradient = torch.zeros_like(normal)
        rows, size = len(scales), normal.shape[-1]
        blocks = blocks_of(_ROWS, rows)
        to_x = torch.empty_like(normal)
        to_y = torch.empty_like(normal, dtype=ctx.format) if ctx.sums else None
        sums, whole = torch.empty(blocks, 2, size), torch.empty(2, size)
        _BACKWARDS[ctx.format](
            blocks,
            *(gradient.contiguous(), normal, scales, weight, to_x),
            *(0 if to_y is None else to_y, sums, rows, size, whole),
            *(*ctx.drawn, 0, 0 if also is None else also.contiguous()),
        )
        to_weight, to_bias = whole
        return to_x, to_y, to_weight, to_bias if ctx.needs_input_grad[3] else None, None, None, None


def add_norm(
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    draw: int,
    dropped: int,
) -> tuple[Tensor, Tensor | None]:
    """Return ``LayerNorm(x + dropout(y))``, and a copy of it in bfloat16 if ``y`` is in that.

    Args:
        x: (..., size), float32.
        y: (..., size), float32 or bfloat16.
        weight: (size,), float32.
        bias: (size,), float32, or None.
        eps: added to the variance.
        draw: the random number that dropout's mask follows from.
        dropped: how many of 65,536 numbers are dropped.
    """
    out, low = apply(_AddNorm, x, y, weight, bias, eps, draw, dropped)
    return out, low


def norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """Return ``LayerNorm(x)``; arguments as of ``add_norm``."""
    out: Tensor = apply(_AddNorm, x, None, weight, bias, eps, 0, 0)[0]
    return out
