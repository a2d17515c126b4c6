"""Attention in blocks of queries: mask, softmax and dropout at once; heads apart and joined.

For the backward pass only the pattern is kept; what dropout left of it is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


Block = tuple[slice, int]
"""Queries that are mixed at once, and the end of the keys that one of them sees."""
Bias = Callable[[slice, slice], Tensor | None]
"""Gives what is added to scores of queries and keys, (batch or 1, heads, queries, keys)."""


class _Attend(torch.autograd.Function):
    """Block by block, so that half of what is masked is neither computed nor kept."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        blocked: Tensor,
        blocks: Sequence[Block],
        bias: Bias,
        factor: float,
        draws: Sequence[int],
        dropped: int,
    ) -> Tensor:
        batch, heads, *_ = query.shape
        queries, keys, values = (each.contiguous().flatten(0, 1) for each in (query, key, value))
        out = torch.empty_like(queries)
        patterns = []
        for (rows, end), draw in zip(blocks, draws, strict=True):
            scores = queries[:, rows] @ keys[:, :end].mT  # (batch * heads, block, end)
            added = bias(rows, slice(end))
            if added is not None:  # the loop multiplies it by the factor, too
                scores.view(batch, heads, *scores.shape[1:]).add_(added, alpha=1 / factor)
            kept = scores
            pattern = torch.empty_like(scores) if dropped else scores
            _FORWARDS[scores.dtype](
                blocks_of(_ROWS, scores.shape[:2].numel()),
                *(scores, blocked[:, rows, :end].contiguous(), pattern, kept),
                *(scores.shape[:2].numel(), end, len(blocked), scores.shape[1]),
                *(heads, factor, draw, dropped),
            )
            out[:, rows] = kept @ values[:, :end]
            patterns.append(pattern)
        ctx.save_for_backward(queries, keys, values, *patterns)
        ctx.rest = blocks, factor, draws, dropped
        return out.view(query.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, *patterns = ctx.saved_tensors
        blocks, factor, draws, dropped = ctx.rest
        batch, heads, *_ = gradient.shape
        gradient = gradient.to(queries.dtype).contiguous().flatten(0, 1)
        to_queries = torch.empty_like(queries)
        to_keys, to_values = torch.zeros_like(keys), torch.zeros_like(values)
        for (rows, end), draw, pattern in zip(blocks, draws, patterns, strict=True):
            slopes = gradient[:, rows] @ values[:, :end].mT
            kept = torch.empty_like(pattern) if dropped else pattern
            of_all = pattern.shape[:2].numel()
            _BACKWARDS[pattern.dtype](
                blocks_of(_ROWS, of_all),
                *(slopes, pattern, kept, slopes, of_all, end, factor, draw, dropped),
            )
            to_queries[:, rows] = slopes @ keys[:, :end]
            # baddbmm_ would go through the batch one by one, since these are not contiguous.
            to_keys[:, :end] += slopes.mT @ queries[:, rows]
            to_values[:, :end] += kept.mT @ gradient[:, rows]
        whole = (each.unflatten(0, (batch, heads)) for each in (to_queries, to_keys, to_values))
        return *whole, None, None, None, None, None, None


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    blocked: Tensor,
    blocks: Sequence[Block],
    bias: Bias,
    factor: float,
    draws: Sequence[int],
    dropped: int,
) -> Tensor:
    """Return ``dropout(softmax(factor * query key^T + bias)) @ value`` over keys not blocked.

    Args:
        query: (batch, heads, queries, head_dim), float32 or bfloat16; softmax is in float32.
        key: (batch, heads, keys, head_dim), in the same format.
        value: as ``key``.
        blocked: (batch or 1, queries, keys), True where a key must not be seen.
        blocks: of queries, in order; no key after the last of a block is seen by one of them.
        bias: has no gradient.
        factor: of the scores.
        draws: for each block, the random number that dropout's mask follows from.
        dropped: how many of 65,536 numbers are dropped.

    Returns:
        (batch, heads, queries, head_dim).
    """
    if torch.is_autocast_enabled("cpu"):  # what it makes of a product, backwards as well
        low = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(low), key.to(low), value.to(low)
    out: Tensor = apply(
        *(_Attend, query, key, value, blocked, blocks, bias, factor, draws, dropped)
    )
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


def split_heads(projected: Tensor) -> tuple[Tensor, ...]:
    """Return parts such as queries, keys and values, (batch, heads, seq, head_dim) in one piece.

    Args:
        projected: (batch, seq, parts, heads, head_dim), float32 or bfloat16.
    """
    apart: tuple[Tensor, ...] = apply(_Split, projected)
    return apart


def join_heads(mixed: Tensor) -> Tensor:
    """Return (batch, seq, heads * head_dim) of (batch, heads, seq, head_dim)."""
    joined: Tensor = apply(_Join, mixed)
    return joined
