"""From attention scores to mixed values: mask, softmax and dropout at once, heads apart and joined.

For the backward pass only the pattern is kept; what dropout left of it is computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    exp,
    inline,
    largest_of,
    next_block,
    real,
    store,
    widen,
)

_ROWS = 16  # a block: a multiple of 4, so that it begins with a whole random number
_MASKED = np.float32(np.finfo(np.float32).min / 2)


@inline
def _forwards(table, scores, blocked, pattern, kept, heads, factor, draw, dropped):
    scale = scale_of(dropped)
    rows, keys = scores.shape
    masks, queries = blocked.shape[0], blocked.shape[1]
    random = np.empty(_ROWS * keys // 4, np.uint64)
    bits = random.view(np.uint16)
    exps = np.empty((_ROWS, keys), np.float32)
    each = np.empty(_ROWS, np.float32)
    while True:
        block = next_block(table)
        if block >= table[1]:
            break
        # All rows take each step together: in one row it must wait for the end of the step before.
        first = block * _ROWS
        count = min(_ROWS, rows - first)
        for i in range(count):
            text = (first + i) // (heads * queries) if masks > 1 else 0
            mask, given, row = blocked[text, (first + i) % queries], scores[first + i], exps[i]
            for j in range(keys):
                row[j] = widen(given[j]) * factor + (_MASKED if mask[j] else np.float32(0))
        for i in range(count):
            each[i] = largest_of(exps[i])
        for i in range(count):
            row, most, total = exps[i], each[i], np.float32(0)
            for j in range(keys):
                row[j] = exp(row[j] - most)
                total += row[j]
            each[i] = total
        for i in range(count):
            row, weights, part = exps[i], pattern[first + i], np.float32(1) / each[i]
            for j in range(keys):
                row[j] *= part
                store(weights, j, row[j])
        if dropped:
            fill_random(random, first * keys // 4, draw)
            flat, left = exps.reshape(-1), kept.reshape(-1)[first * keys :]
            for j in range(count * keys):
                store(left, j, flat[j] * keep(bits[j], dropped, scale))


@inline
def _backwards(table, gradient, pattern, kept, out, factor, draw, dropped):
    scale = scale_of(dropped)
    rows, keys = pattern.shape
    random = np.empty(_ROWS * keys // 4, np.uint64)
    bits = random.view(np.uint16)
    slopes = np.empty(keys, np.float32)
    while True:
        block = next_block(table)
        if block >= table[1]:
            break
        first = block * _ROWS
        if dropped:
            fill_random(random, first * keys // 4, draw)
        for row in range(first, min(first + _ROWS, rows)):
            mine = bits[(row - first) * keys : (row - first + 1) * keys]
            if dropped:
                left = kept[row]
                for j in range(keys):
                    kept_by = keep(mine[j], dropped, scale)
                    slopes[j] = widen(gradient[row, j]) * kept_by
                    store(left, j, widen(pattern[row, j]) * kept_by)
            else:
                for j in range(keys):
                    slopes[j] = widen(gradient[row, j])
            along = np.float32(0)
            for j in range(keys):
                along += slopes[j] * widen(pattern[row, j])
            for j in range(keys):
                store(out[row], j, widen(pattern[row, j]) * (slopes[j] - along) * factor)


def _forward_entry(numbers):
    def entry(a):
        rows, keys, masks, queries = a[6], a[7], a[8], a[9]
        _forwards(
            a,
            carray(address(a[2]), (rows, keys), numbers),
            carray(address(a[3]), (masks, queries, keys), np.bool_),
            carray(address(a[4]), (rows, keys), numbers),
            carray(address(a[5]), (rows, keys), numbers),
            a[10],
            np.float32(real(a[11])),
            a[12],
            np.int32(a[13]),
        )

    return entry


def _backward_entry(numbers):
    def entry(a):
        rows, keys = a[6], a[7]
        _backwards(
            a,
            carray(address(a[2]), (rows, keys), numbers),
            carray(address(a[3]), (rows, keys), numbers),
            carray(address(a[4]), (rows, keys), numbers),
            carray(address(a[5]), (rows, keys), numbers),
            np.float32(real(a[8])),
            a[9],
            np.int32(a[10]),
        )

    return entry


_FORWARDS, _BACKWARDS = by_format(_forward_entry), by_format(_backward_entry)


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        value: Tensor,
        blocked: Tensor,
        factor: float,
        draw: int,
        dropped: int,
    ) -> Tensor:
        scores, blocked = scores.contiguous(), blocked.contiguous()
        batch, heads, queries, keys = scores.shape
        rows = batch * heads * queries
        pattern = torch.empty_like(scores)
        kept = torch.empty_like(scores) if dropped else pattern
        _FORWARDS[scores.dtype](
            blocks_of(_ROWS, rows),
            *(scores, blocked, pattern, kept),
            *(rows, keys, len(blocked), queries, heads, factor, draw, dropped),
        )
        ctx.save_for_backward(pattern, value)
        ctx.rest = factor, draw, dropped
        return kept @ value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pattern, value = ctx.saved_tensors
        *_, dropped = ctx.rest
        rows, keys = pattern.shape[:-1].numel(), pattern.shape[-1]
        gradient = gradient.to(pattern.dtype)
        slopes = (gradient @ value.mT).contiguous()
        kept = torch.empty_like(pattern) if dropped else pattern
        to_scores = torch.empty_like(pattern)
        _BACKWARDS[pattern.dtype](
            blocks_of(_ROWS, rows), slopes, pattern, kept, to_scores, rows, keys, *ctx.rest
        )
        return to_scores, kept.mT @ gradient, None, None, None, None


def mix_values(
    scores: Tensor, value: Tensor, blocked: Tensor, factor: float, draw: int, dropped: int
) -> Tensor:
    """Return ``dropout(softmax(factor * scores)) @ value`` over the keys that are not blocked.

    Args:
        scores: (batch, heads, queries, keys), float32 or bfloat16; computed with in float32.
        value: (batch, heads, keys, head_dim), in the same format.
        blocked: (batch or 1, queries, keys), True where a key must not be seen.
        factor: of the scores.
        draw: the random number that dropout's mask follows from.
        dropped: how many of 65,536 numbers are dropped.

    Returns:
        (batch, heads, queries, head_dim).
    """
    out: Tensor = apply(_Mix, scores, value, blocked, factor, draw, dropped)
    return out


def _turn_entry(numbers):
    def entry(a):
        batch, seq, parts, heads, size = a[2], a[3], a[4], a[5], a[6]
        joined = carray(address(a[7]), (batch, seq, parts, heads, size), numbers)
        splits = a[8] == 1
        while True:
            item = next_block(a)
            if item >= a[1]:
                break
            text, part = item // parts, item % parts
            apart = carray(address(a[9 + part]), (batch, heads, seq, size), numbers)
            for head in range(heads):
                for i in range(seq):
                    joined_row, apart_row = joined[text, i, part, head], apart[text, head, i]
                    if splits:
                        for j in range(size):
                            apart_row[j] = joined_row[j]
                    else:
                        for j in range(size):
                            joined_row[j] = apart_row[j]

    return entry


_TURN = by_format(_turn_entry)


def _turn(joined: Tensor, apart: Sequence[Tensor], splits: bool) -> None:
    """Copy (batch, seq, parts, heads, head_dim) into parts of (batch, heads, seq, head_dim)."""
    batch, _, parts, *_ = joined.shape
    _TURN[joined.dtype](batch * parts, *joined.shape, joined, int(splits), *apart)


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, joined: Tensor) -> tuple[Tensor, ...]:
        batch, seq, parts, heads, size = joined.shape
        apart = [joined.new_empty(batch, heads, seq, size) for _ in range(parts)]
        _turn(joined.contiguous(), apart, True)
        return tuple(apart)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        batch, heads, seq, size = gradients[0].shape
        joined = gradients[0].new_empty(batch, seq, len(gradients), heads, size)
        _turn(joined, [gradient.contiguous() for gradient in gradients], False)
        return joined


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mixed: Tensor) -> Tensor:
        batch, heads, seq, size = mixed.shape
        joined = mixed.new_empty(batch, seq, 1, heads, size)
        _turn(joined, [mixed.contiguous()], False)
        ctx.heads = heads
        return joined.view(batch, seq, heads * size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        batch, seq, width = gradient.shape
        mixed = gradient.new_empty(batch, ctx.heads, seq, width // ctx.heads)
        joined = gradient.contiguous().view(batch, seq, 1, ctx.heads, -1)
        _turn(joined, [mixed], True)
        return mixed


def split_heads(projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values, (batch, heads, seq, head_dim), each in one piece.

    Args:
        projected: (batch, seq, 3, heads, head_dim), float32 or bfloat16.
    """
    query, key, value = apply(_Split, projected)
    return query, key, value


def join_heads(mixed: Tensor) -> Tensor:
    """Return (batch, seq, heads * head_dim) of (batch, heads, seq, head_dim)."""
    joined: Tensor = apply(_Join, mixed)
    return joined
