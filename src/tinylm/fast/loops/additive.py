"""Additive attention of one step: scores, their softmax and the context in one pass over a text.

torch makes an array of source x hidden numbers for every operation between the query and the
scores, there and again on the way back. Here each is a number in a register, and places without a
token cost nothing.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from numba import carray
from torch import Tensor

from tinylm.fast.loops.functions import tanh
from tinylm.fast.loops.launch import Kernel, address, exp, inline, next_block, threads_for

_NANOSECONDS = 1.0
"""That a thread takes for a number of a key, there; back about twice as many."""


@inline
def _look(table, keys, memory, vector, blocked, query, pattern, context):
    source, size = keys.shape[1], keys.shape[2]
    while True:
        row = next_block(table)
        if row >= table[1]:
            break
        asked, weights, out = query[row], pattern[row], context[row]
        top, some = np.float32(0), False
        for j in range(source):
            if len(blocked) and blocked[row, j]:
                continue
            key = keys[row, j]
            score = np.float32(0)
            for i in range(size):
                score += vector[i] * tanh(asked[i] + key[i])
            weights[j] = score
            top = score if not some else max(top, score)
            some = True
        total = np.float32(0)
        for j in range(source):
            if len(blocked) and blocked[row, j]:
                # A text without any token has equal weights.
                weights[j] = np.float32(0) if some else np.float32(1)
            else:
                weights[j] = exp(weights[j] - top)
            total += weights[j]
        out[:size] = 0
        for j in range(source):
            weights[j] /= total
            weight, state = weights[j], memory[row, j]
            if weight != 0:
                for i in range(size):
                    out[i] += weight * state[i]


@inline
def _look_back(
    table, keys, memory, vector, query, pattern, to_context, to_query, to_keys, to_vector, slopes
):
    source, size = keys.shape[1], keys.shape[2]
    while True:
        row = next_block(table)
        if row >= table[1]:
            break
        asked, weights, above = query[row], pattern[row], to_context[row]
        out, sums, slope = to_query[row], to_vector[row], slopes[row]
        mean = np.float32(0)
        for j in range(source):
            state, product = memory[row, j], np.float32(0)
            if weights[j] != 0:
                for i in range(size):
                    product += above[i] * state[i]
            slope[j] = product
            mean += weights[j] * product
        out[:size] = 0
        for j in range(source):
            to_score = weights[j] * (slope[j] - mean)
            if to_score == 0:
                continue
            key, to_key = keys[row, j], to_keys[row, j]
            for i in range(size):
                bent = tanh(asked[i] + key[i])
                sums[i] += to_score * bent
                to_sum = to_score * vector[i] * (np.float32(1) - bent * bent)
                to_key[i] += to_sum
                out[i] += to_sum


def _entry(a):
    batch, source, size, stride = a[2], a[3], a[4], a[5]
    _look(
        a,
        carray(address(a[6]), (batch, source, size), np.float32),
        carray(address(a[7]), (batch, source, size), np.float32),
        carray(address(a[8]), (size,), np.float32),
        carray(address(a[9]), (batch if a[9] else 0, source), np.uint8),
        carray(address(a[10]), (batch, stride), np.float32),
        carray(address(a[11]), (batch, source), np.float32),
        carray(address(a[12]), (batch, size), np.float32),
    )


def _back_entry(a):
    batch, source, size, stride = a[2], a[3], a[4], a[5]
    _look_back(
        a,
        carray(address(a[6]), (batch, source, size), np.float32),
        carray(address(a[7]), (batch, source, size), np.float32),
        carray(address(a[8]), (size,), np.float32),
        carray(address(a[10]), (batch, stride), np.float32),
        carray(address(a[11]), (batch, source), np.float32),
        carray(address(a[12]), (batch, size), np.float32),
        carray(address(a[13]), (batch, stride), np.float32),
        carray(address(a[14]), (batch, source, size), np.float32),
        carray(address(a[15]), (batch, size), np.float32),
        carray(address(a[16]), (batch, source), np.float32),
    )


_LOOK, _LOOK_BACK = Kernel(_entry), Kernel(_back_entry)
_QUERY, _PATTERN, _CONTEXT, _TO_QUERY = 10, 11, 12, 13  # places in the table that steps change


class Look:
    """The attention of one pass over a target, float32 on a CPU.

    Queries, and their gradients, may be parts of wider rows; all else is contiguous.
    """

    def __init__(
        self,
        keys: Tensor,
        memory: Tensor,
        vector: Tensor,
        blocked: Tensor | None,
        stride: int,
        back: bool = False,
    ) -> None:
        """Take what is the same for all steps.

        Args:
            keys: (batch, source, hidden).
            memory: (batch, source, hidden).
            vector: (hidden,).
            blocked: (batch, source), bool, True where there is no token; None: nowhere.
            stride: numbers from a query to that of the next text.
            back: whether gradients are asked for, too.
        """
        batch, source, size = keys.shape
        self._held = [keys.contiguous(), memory.contiguous(), vector.contiguous()]
        shapes: list[int] = [0, batch, batch, source, size, stride]
        addresses = [tensor.data_ptr() for tensor in self._held]
        mask = None if blocked is None else blocked.contiguous().view(torch.uint8)
        self._mask = mask
        self.to_keys = torch.zeros(batch, source, size) if back else None
        self._to_vector = torch.zeros(batch, size) if back else None
        self._slopes = torch.empty(batch, source) if back else None
        more = [0 if t is None else t.data_ptr()
                for t in (self.to_keys, self._to_vector, self._slopes)]  # fmt: skip
        table = [*shapes, *addresses, 0 if mask is None else mask.data_ptr(), 0, 0, 0, 0, *more]
        self._table = (ctypes.c_int64 * len(table))(*table)
        work = batch * source * size * _NANOSECONDS * (2 if back else 1)
        self._threads = max(1, min(threads_for(work), batch))

    def __call__(self, query: Tensor, pattern: Tensor, context: Tensor) -> None:
        """Put the weights, (batch, source), and contexts, (batch, hidden), into the other two."""
        table = self._table
        table[0] = 0
        table[_QUERY], table[_PATTERN] = query.data_ptr(), pattern.data_ptr()
        table[_CONTEXT] = context.data_ptr()
        _LOOK.run(table, self._threads)

    def back(self, query: Tensor, pattern: Tensor, to_context: Tensor, to_query: Tensor) -> None:
        """Put the gradient of a step's query into ``to_query``; add to those of all steps."""
        table = self._table
        table[0] = 0
        table[_QUERY], table[_PATTERN] = query.data_ptr(), pattern.data_ptr()
        table[_CONTEXT], table[_TO_QUERY] = to_context.data_ptr(), to_query.data_ptr()
        _LOOK_BACK.run(table, self._threads)

    def to_vector(self) -> Tensor:
        """Return the gradient of the vector, of all steps that were gone back through."""
        sums: Any = self._to_vector
        total: Tensor = sums.sum(0)
        return total
