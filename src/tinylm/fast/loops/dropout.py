"""Dropout without a mask in memory: backwards it is computed again from the draw.

The masks are those of ``model.layers.Dropout``: 16 bits of SplitMix64 decide about a number.
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
    inline,
    next_block,
    store,
    widen,
)

_BLOCK = 4096  # numbers: a multiple of the 4 that one random number decides about


@inline
def fill_random(random, first, draw):
    """Fill an array of uint64 with numbers ``first``, ``first + 1``, … of SplitMix64."""
    for i in range(len(random)):
        z = np.uint64(draw) + np.uint64(first + i) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        random[i] = z ^ (z >> np.uint64(31))


@inline
def scale_of(dropped):
    """Return what the numbers that are not dropped are multiplied by."""
    return np.float32(65536 / (65536 - dropped))


@inline
def keep(bits, dropped, scale):
    """Return what 16 random bits multiply a number by: 0 or ``scale``; 1 if none are dropped.

    They are compared as signed numbers, as torch, which has no unsigned ones, compares them.
    """
    return scale if np.int32(np.int16(bits)) >= dropped - 32768 else np.float32(0)


@inline
def _drop(table, x, out, draw, dropped):
    scale = scale_of(dropped)
    random = np.empty(_BLOCK // 4, np.uint64)
    bits = random.view(np.uint16)
    while True:
        block = next_block(table)
        if block >= table[1]:
            break
        start = block * _BLOCK
        fill_random(random, start // 4, draw)
        before, after = x[start : start + _BLOCK], out[start : start + _BLOCK]
        for i in range(len(before)):
            store(after, i, widen(before[i]) * keep(bits[i], dropped, scale))


def _entry(numbers):
    def entry(a):
        count = a[4]
        x = carray(address(a[2]), (count,), numbers)
        out = carray(address(a[3]), (count,), numbers)
        _drop(a, x, out, a[5], np.int32(a[6]))

    return entry


_RUN = by_format(_entry)


def _dropped(x: Tensor, draw: int, dropped: int) -> Tensor:
    x = x.contiguous()
    out = torch.empty_like(x)
    count = x.numel()
    _RUN[x.dtype](blocks_of(_BLOCK, count), x, out, count, draw, dropped)
    return out


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, draw: int, dropped: int) -> Tensor:
        ctx.drawn = draw, dropped
        return _dropped(x, draw, dropped)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _dropped(gradient, *ctx.drawn), None, None


def dropout(x: Tensor, draw: int, dropped: int) -> Tensor:
    """Return ``x``, any shape, with numbers dropped and the others scaled.

    Args:
        x: float32 or bfloat16.
        draw: the random number that the mask follows from.
        dropped: how many of 65,536 numbers are dropped.
    """
    out: Tensor = apply(_Dropout, x, draw, dropped)
    return out
