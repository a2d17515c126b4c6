"""GELU, its tanh form and SiLU with their derivatives, each in one pass by all threads.

torch's take twice the time: these have the ``exp`` of the loops, which is exact to 2 units in the
last place, and an error function to 1.5e-7.
"""

from __future__ import annotations

from typing import Any

import torch
from numba import carray
from torch import Tensor
from torch.autograd.function import once_differentiable

from tinylm.fast.autograd import apply
from tinylm.fast.loops.functions import (
    gelu,
    gelu_slope,
    gelu_tanh,
    gelu_tanh_slope,
    silu,
    silu_slope,
)
from tinylm.fast.loops.launch import (
    address,
    blocks_of,
    by_format,
    next_block,
    store,
    widen,
)

_NUMBERS = 4096
"""Of a block."""
_NAMES = ("gelu", "gelu_tanh", "silu")
_GELU, _SILU = 0, 2


# Which activation it is stands in the table: a kernel that a function is compiled into is found
# again in no other process, and would be compiled and kept anew by each.
def _forward_entry(numbers):
    def entry(a):
        count, activation = a[2], a[3]
        x = carray(address(a[4]), (count,), numbers)
        out = carray(address(a[5]), (count,), numbers)
        while True:
            block = next_block(a)
            if block >= a[1]:
                break
            start = block * _NUMBERS
            end = min(start + _NUMBERS, count)
            read, write = x[start:end], out[start:end]
            if activation == _GELU:
                for i in range(end - start):
                    store(write, i, gelu(widen(read[i])))
            elif activation == _SILU:
                for i in range(end - start):
                    store(write, i, silu(widen(read[i])))
            else:
                for i in range(end - start):
                    store(write, i, gelu_tanh(widen(read[i])))

    return entry


def _backward_entry(numbers):
    def entry(a):
        count, activation = a[2], a[3]
        x = carray(address(a[4]), (count,), numbers)
        out = carray(address(a[5]), (count,), numbers)
        gradient = carray(address(a[6]), (count,), numbers)
        while True:
            block = next_block(a)
            if block >= a[1]:
                break
            start = block * _NUMBERS
            end = min(start + _NUMBERS, count)
            read, above, write = x[start:end], gradient[start:end], out[start:end]
            if activation == _GELU:
                for i in range(end - start):
                    store(write, i, widen(above[i]) * gelu_slope(widen(read[i])))
            elif activation == _SILU:
                for i in range(end - start):
                    store(write, i, widen(above[i]) * silu_slope(widen(read[i])))
            else:
                for i in range(end - start):
                    store(write, i, widen(above[i]) * gelu_tanh_slope(widen(read[i])))

    return entry


_FORWARDS, _BACKWARDS = by_format(_forward_entry), by_format(_backward_entry)


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, activation: int) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        ctx.activation = activation
        out, count = torch.empty_like(x), x.numel()
        _FORWARDS[x.dtype](blocks_of(_NUMBERS, count), count, activation, x, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        gradient = gradient.to(x.dtype).contiguous()
        out, count = torch.empty_like(x), x.numel()
        _BACKWARDS[x.dtype](blocks_of(_NUMBERS, count), count, ctx.activation, x, out, gradient)
        return out, None


def activate(x: Tensor, name: str) -> Tensor:
    """Return an activation of ``x``, any shape, float32 or bfloat16.

    Args:
        x: computed with in float32.
        name: gelu, gelu_tanh or silu.
    """
    out: Tensor = apply(_Activate, x, _NAMES.index(name))
    return out
