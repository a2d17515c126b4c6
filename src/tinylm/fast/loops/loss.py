"""Softmax cross-entropy and its gradient, a row of logits at a time."""

from __future__ import annotations

import numpy as np
import torch
from numba import carray
from torch import Tensor

from tinylm.fast.loops.launch import (
    Kernel,
    address,
    blocks_of,
    by_format,
    exp,
    inline,
    next_block,
    ordered,
    real,
    store,
    sum_when_last,
    unordered,
    widen,
)

_PARTS = 16
"""Into which the rows are cut: the gradient of the bias is summed in each, then over them."""
_BLOCK = 16384
_COUNTER = 9  # its place in the table


@inline
def _loss_to_gradient(row, target, exps, column_sums):
    largest = np.int32(-(2**31))
    for j in range(len(row)):
        largest = max(largest, ordered(widen(row[j])))
    most = unordered(largest)
    at_target = widen(row[target])
    total = np.float32(0)
    for j in range(len(row)):
        exps[j] = exp(widen(row[j]) - most)
    for j in range(len(row)):
        total += exps[j]  # in a loop that writes nothing (``launch``)
    exps[target] -= total
    scale = np.float32(1) / total
    for j in range(len(row)):
        slope = exps[j] * scale
        column_sums[j] += slope
        store(row, j, slope)
    return most + np.log(total) - at_target


@inline
def _losses_to_gradients(table, logits, targets, losses, column_sums, to_bias):
    parts, rows = len(column_sums), len(losses)
    exps = np.empty(logits.shape[1], np.float32)
    while True:
        part = next_block(table)
        if part >= parts:
            break
        for i in range(part * rows // parts, (part + 1) * rows // parts):
            losses[i] = _loss_to_gradient(logits[i], targets[i], exps, column_sums[part])
        sum_when_last(table, _COUNTER, column_sums, to_bias)


def _entry(numbers):
    def entry(a):
        parts, rows, vocab = a[1], a[6], a[7]
        _losses_to_gradients(
            a,
            carray(address(a[2]), (rows, vocab), numbers),
            carray(address(a[3]), (rows,), np.int64),
            carray(address(a[4]), (rows,), np.float32),
            carray(address(a[5]), (parts, vocab), np.float32),
            carray(address(a[8]), (vocab,), np.float32),
        )

    return entry


_RUN = by_format(_entry)


def losses_to_gradients(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Turn logits into the gradient of their cross-entropy, ``softmax - one-hot``, in place.

    Args:
        logits: (rows, vocab), contiguous, float32 or bfloat16.
        targets: (rows,), int64.

    Returns:
        The summed loss, and the gradient's sum over the rows, (vocab,), in float32.
    """
    rows, vocab = logits.shape
    losses = torch.empty(rows)
    sums = torch.zeros(_PARTS, vocab)
    to_bias = torch.empty(vocab)
    _RUN[logits.dtype](_PARTS, logits, targets.contiguous(), losses, sums, rows, vocab, to_bias, 0)
    return losses.sum(), to_bias


def _scale_entry(a):
    count, factor = a[4], np.float32(real(a[5]))
    given = carray(address(a[2]), (count,), np.uint16)
    out = carray(address(a[3]), (count,), np.float32)
    while True:
        block = next_block(a)
        if block >= a[1]:
            break
        before = given[block * _BLOCK : (block + 1) * _BLOCK]
        after = out[block * _BLOCK : (block + 1) * _BLOCK]
        for i in range(len(before)):
            after[i] = widen(before[i]) * factor


_SCALE = Kernel(_scale_entry)


def scaled(given: Tensor, factor: float) -> Tensor:
    """Return ``factor * given`` in float32, of a contiguous tensor in bfloat16."""
    out = torch.empty_like(given, dtype=torch.float32)
    count = given.numel()
    _SCALE(blocks_of(_BLOCK, count), given, out, count, factor)
    return out
