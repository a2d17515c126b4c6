"""The next tokens of texts with their log-probabilities: the likeliest, or one that is drawn."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import carray
from torch import Tensor

from tinylm.fast.loops.launch import (
    address,
    bits_of,
    by_format,
    exp,
    function,
    largest_of,
    next_block,
    real,
    threads_for,
    widen,
)

_NANOSECONDS = 0.7  # that a number takes one thread
_DRAWING = 2.0  # likewise
_CHUNK = 64
"""Numbers whose largest is remembered: after one is taken, only its chunk is searched again."""


@function
def _take(logits, largest, ids, log_probabilities, shift):
    """Take the largest numbers out of a row, one after the other, lower ids first."""
    for i in range(len(ids)):
        chunk = 0
        for c in range(len(largest)):
            if largest[c] > largest[chunk]:
                chunk = c
        place = chunk * _CHUNK
        while place < len(logits) - 1 and logits[place] != largest[chunk]:
            place += 1
        ids[i] = place
        log_probabilities[i] = logits[place] - shift
        logits[place] = -np.inf
        largest[chunk] = largest_of(logits[chunk * _CHUNK : (chunk + 1) * _CHUNK])


def _entry(numbers):
    def entry(a):
        rows, vocab, count, forbidden = a[2], a[3], a[4], a[5]
        logits = carray(address(a[6]), (rows, vocab), numbers)
        never = carray(address(a[7]), (forbidden,), np.int64)
        ids = carray(address(a[8]), (rows, count), np.int64)
        log_probabilities = carray(address(a[9]), (rows, count), np.float32)
        row = np.empty(vocab, np.float32)
        largest = np.empty((vocab + _CHUNK - 1) // _CHUNK, np.float32)
        while True:
            i = next_block(a)
            if i >= a[1]:
                break
            given = logits[i]
            for j in range(vocab):
                row[j] = widen(given[j])
            most, total = largest_of(row), np.float32(0)
            for j in range(vocab):
                total += exp(row[j] - most)
            for j in range(forbidden):
                row[never[j]] = -np.inf
            for c in range(len(largest)):
                largest[c] = largest_of(row[c * _CHUNK : (c + 1) * _CHUNK])
            _take(row, largest, ids[i], log_probabilities[i], most + np.log(total))

    return entry


_RUN = by_format(_entry)


def likeliest(logits: Tensor, forbidden: Sequence[int], count: int) -> tuple[Tensor, Tensor]:
    """Return the likeliest tokens of each row, likeliest first, and ``log_softmax`` at them.

    Args:
        logits: (rows, vocab), float32 or bfloat16; computed with in float32.
        forbidden: ids that are not taken; their probability is not given to the others.
        count: how many are taken; of the forbidden only when no other is left, at -inf.

    Returns:
        ids, (rows, count), int64, and log-probabilities, (rows, count), float32.
    """
    rows, vocab = logits.shape
    ids = torch.empty(rows, count, dtype=torch.int64)
    log_probabilities = torch.empty(rows, count)
    held = logits.contiguous()
    never = (ctypes.c_int64 * len(forbidden))(*forbidden)
    table: Any = (ctypes.c_int64 * 10)(
        *(0, rows, rows, vocab, count, len(forbidden)),
        *(held.data_ptr(), ctypes.addressof(never), ids.data_ptr(), log_probabilities.data_ptr()),
    )
    _RUN[logits.dtype].run(table, min(threads_for(rows * vocab * _NANOSECONDS), rows))
    return ids, log_probabilities


def _drawing_entry(numbers):
    def entry(a):
        rows, vocab, forbidden, rate = a[2], a[3], a[4], np.float32(1 / real(a[5]))
        logits = carray(address(a[6]), (rows, vocab), numbers)
        never = carray(address(a[7]), (forbidden,), np.int64)
        uniform = carray(address(a[8]), (rows,), np.float32)
        ids = carray(address(a[9]), (rows,), np.int64)
        log_probabilities = carray(address(a[10]), (rows,), np.float32)
        row, weights = np.empty(vocab, np.float32), np.empty(vocab, np.float32)
        while True:
            i = next_block(a)
            if i >= a[1]:
                break
            given = logits[i]
            for j in range(vocab):
                row[j] = widen(given[j])
            most, whole = largest_of(row), np.float32(0)
            for j in range(vocab):
                whole += exp(row[j] - most)
            for j in range(forbidden):
                row[never[j]] = -np.inf
            # Of the tokens that are left, which may be far less likely than the others.
            highest, total = largest_of(row), 0.0
            for j in range(vocab):
                weights[j] = exp((row[j] - highest) * rate)
            for j in range(vocab):
                total += np.float64(weights[j])
            target, place = np.float64(uniform[i]) * total, 0
            reached = np.float64(weights[0])
            while reached <= target and place < vocab - 1:
                place += 1
                reached += np.float64(weights[place])
            ids[i] = place
            log_probabilities[i] = row[place] - (most + np.log(whole))

    return entry


_DRAW = by_format(_drawing_entry)


def drawn(
    logits: Tensor, forbidden: Sequence[int], uniform: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return a token of each row, drawn from the softmax over a temperature, and ``log_softmax``.

    Args:
        logits: (rows, vocab), float32 or bfloat16; computed with in float32.
        forbidden: ids that are not drawn, not all; their probability is shared by the others.
        uniform: (rows,), float32, in [0, 1); of each row the first token is taken whose cumulative
            probability exceeds its number.
        temperature: above 0; the log-probabilities are those at 1, of all tokens.

    Returns:
        ids, (rows,), int64, and log-probabilities, (rows,), float32.
    """
    rows, vocab = logits.shape
    ids = torch.empty(rows, dtype=torch.int64)
    log_probabilities = torch.empty(rows)
    held, numbers = logits.contiguous(), uniform.contiguous()
    never = (ctypes.c_int64 * len(forbidden))(*forbidden)
    table: Any = (ctypes.c_int64 * 11)(
        *(0, rows, rows, vocab, len(forbidden), bits_of(temperature)),
        *(held.data_ptr(), ctypes.addressof(never), numbers.data_ptr()),
        *(ids.data_ptr(), log_probabilities.data_ptr()),
    )
    _DRAW[logits.dtype].run(table, min(threads_for(rows * vocab * _DRAWING), rows))
    return ids, log_probabilities
