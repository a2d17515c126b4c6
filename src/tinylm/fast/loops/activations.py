"""GELU, its tanh form and SiLU with their derivatives, each in one pass by all threads.

torch's take twice the time: these have the ``exp`` of the loops, which is exact to 2 units in the
last place, and an error function to 1.5e-7.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import carray
from torch import Tensor
from torch.autograd.function import once_differentiable

from tinylm.fast.autograd import apply
from tinylm.fast.loops.launch import (
    address,
    blocks_of,
    by_format,
    exp,
    inline,
    next_block,
    store,
    widen,
)
from tinylm.fast.loops.single_token import erf, tanh

_NUMBERS = 4096
"""Of a block."""
_HALF, _ONE = np.float32(0.5), np.float32(1)
_ROOT, _CUBE = np.float32(0.7978845608028654), np.float32(0.044715)  # sqrt(2 / pi)
_INVERSE_ROOT, _DENSITY = np.float32(0.7071067811865476), np.float32(0.3989422804014327)


@inline
def _gelu_at(x):
    return x * _HALF * (_ONE + erf(x * _INVERSE_ROOT))


@inline
def _gelu_slope(x):
    return _HALF * (_ONE + erf(x * _INVERSE_ROOT)) + x * _DENSITY * exp(-_HALF * x * x)


@inline
def _gelu_tanh_at(x):
    return x * _HALF * (_ONE + tanh(_ROOT * x * (_ONE + _CUBE * x * x)))


@inline
def _gelu_tanh_slope(x):
    square = x * x
    y = tanh(_ROOT * x * (_ONE + _CUBE * square))
    inner = _ROOT * (_ONE + np.float32(3) * _CUBE * square)
    return _HALF * (_ONE + y) + _HALF * x * (_ONE - y * y) * inner


@inline
def _silu_at(x):
    return x * _HALF * (_ONE + tanh(_HALF * x))


@inline
def _silu_slope(x):
    y = _HALF * (_ONE + tanh(_HALF * x))
    return y * (_ONE + x * (_ONE - y))


def _entry_of(at, backwards):
    def with_numbers(numbers):
        def entry(a):
            count = a[2]
            x = carray(address(a[3]), (count,), numbers)
            given = carray(address(a[4]), (count,), numbers)  # the gradient, or x again
            out = carray(address(a[5]), (count,), numbers)
            while True:
                block = next_block(a)
                if block >= a[1]:
                    break
                start = block * _NUMBERS
                end = min(start + _NUMBERS, count)
                read, above, write = x[start:end], given[start:end], out[start:end]
                if backwards:
                    for i in range(end - start):
                        store(write, i, widen(above[i]) * at(widen(read[i])))
                else:
                    for i in range(end - start):
                        store(write, i, at(widen(read[i])))

        return entry

    return with_numbers


_FORWARDS = {
    "gelu": by_format(_entry_of(_gelu_at, False)),
    "gelu_tanh": by_format(_entry_of(_gelu_tanh_at, False)),
    "silu": by_format(_entry_of(_silu_at, False)),
}
_BACKWARDS = {
    "gelu": by_format(_entry_of(_gelu_slope, True)),
    "gelu_tanh": by_format(_entry_of(_gelu_tanh_slope, True)),
    "silu": by_format(_entry_of(_silu_slope, True)),
}


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        ctx.name = name
        return _run(_FORWARDS[name], x, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return _run(_BACKWARDS[ctx.name], x, gradient.to(x.dtype).contiguous()), None


def _run(kernels: Any, x: Tensor, given: Tensor) -> Tensor:
    out, count = torch.empty_like(x), x.numel()
    kernels[x.dtype](blocks_of(_NUMBERS, count), count, x, given, out)
    return out


def activate(x: Tensor, name: str) -> Tensor:
    """Return an activation of ``x``, any shape, float32 or bfloat16.

    Args:
        x: computed with in float32.
        name: gelu, gelu_tanh or silu.
    """
    out: Tensor = apply(_Activate, x, name)
    return out
