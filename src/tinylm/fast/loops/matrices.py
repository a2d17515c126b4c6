"""Linear maps of a few rows: matrices in floating point or in packed codes, and their kernel."""

from __future__ import annotations

import ctypes
import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import carray
from torch import Tensor

from tinylm.fast.loops.launch import (
    MEMORY,
    Kernel,
    address,
    function,
    inline,
    largest_of,
    next_block,
)
from tinylm.fast.loops.products import (
    LONGEST_GROUP,
    TOGETHER,
    multiply_five,
    multiply_four,
    multiply_one,
)

__all__ = ["LONGEST_GROUP", "Linear", "Matrix", "linear_part", "round_rows", "space_for"]

_LARGEST = 32767  # of an input that is rounded to 16 bits
_UPPER = 32768  # what the upper 16 bits of one of 31 bits count
PLACES = 8
"""Numbers of ``Matrix.place``."""
_WEIGHT, _ROW_BYTES, _GROUPS, _SCALE, _ZERO, _BIAS, _DIVISOR, _FINE = range(PLACES)


class Matrix(NamedTuple):
    """A linear map as the kernels read it."""

    weight: Tensor
    """(out, in), float32 or bfloat16; codes of 8 bits, int8; or, uint8, (out, bytes of a row), two
    codes of 4 bits a byte, as ``numbers.integers`` packs them."""
    bias: Tensor
    """(out,), float32."""
    scale: Tensor | None = None
    """(groups of a row, out), float32, of codes."""
    zero: Tensor | None = None
    """As scale: codes of 0, where codes are from 0 up; of those of 8 bits, less 128."""
    divisor: Tensor | None = None
    """(in,), float32, that inputs are divided by before codes multiply them."""
    fine: bool = False
    """Whether codes multiply inputs of 31 bits rather than of 16."""

    @property
    def place(self) -> list[int]:
        """Where everything stands, and the sizes that the kernels need beside."""
        return [
            self.weight.data_ptr(),
            self.weight.stride(0) * self.weight.element_size(),
            1 if self.scale is None else len(self.scale),
            *(0 if part is None else part.data_ptr() for part in (self.scale, self.zero)),
            self.bias.data_ptr(),
            0 if self.divisor is None else self.divisor.data_ptr(),
            int(self.fine),
        ]


@inline
def space_for(rows, inputs):
    """Return arrays for ``round_rows``: of as many inputs, or more, and as many groups."""
    size = 2 * rows * inputs
    return np.empty(size, np.int16), np.empty(2 * rows, np.float32), np.empty(size, np.float32)


@function
def round_rows(x, place, space):
    """Round each row of inputs by its largest number, if the matrix holds codes.

    Args:
        x: (rows, inputs), float32.
        place: of the matrix.
        space: as ``space_for`` gives it. Written: the whole numbers of 16 bits, by row, and where
            the matrix wants finer ones, rows of their lower bits after all others; what each row of
            them is multiplied by; and their sums, by row and group.
    """
    if place[_SCALE] == 0:
        return
    whole, rates, sums = space
    (rows, inputs), groups = x.shape, place[_GROUPS]
    divided = inputs if place[_DIVISOR] else 0
    divisor = carray(address(place[_DIVISOR]), (divided,), np.float32)
    given, sizes = np.empty(inputs, np.float32), np.empty(inputs, np.float32)
    size = inputs // groups
    for row in range(rows):
        for j in range(inputs):
            given[j] = x[row, j]
        for j in range(divided):
            given[j] /= divisor[j]
        for j in range(inputs):
            sizes[j] = abs(given[j])
        largest, fine = largest_of(sizes), place[_FINE] != 0
        rate = largest / np.float32(_LARGEST * _UPPER if fine else _LARGEST)
        per_step = np.float32(1) / rate if rate > 0 else np.float32(0)
        rates[row] = rate * np.float32(_UPPER) if fine else rate
        own = whole[row * inputs : (row + 1) * inputs]
        if fine:
            rates[rows + row] = rate
            lower = whole[(rows + row) * inputs : (rows + row + 1) * inputs]
            for j in range(inputs):
                number = np.int32(np.floor(given[j] * per_step + np.float32(0.5)))
                own[j] = np.int16(number >> np.int32(15))
                lower[j] = np.int16(number & np.int32(_UPPER - 1))
        else:
            for j in range(inputs):
                own[j] = np.int16(np.floor(given[j] * per_step + np.float32(0.5)))
    for row in range(2 * rows if place[_FINE] else rows):
        for group in range(groups):
            start, total = row * inputs + group * size, np.int32(0)
            for j in range(start, start + size):
                total += np.int32(whole[j])
            sums[row * groups + group] = np.float32(total)


@inline
def start_of(part, parts, outputs):
    """Return the first output of a part; each is whole blocks of outputs."""
    blocks = (outputs + TOGETHER - 1) // TOGETHER
    return min(part * blocks // parts * TOGETHER, outputs)


@function
def linear_part(x, place, space, out, part, parts, numbers):
    """Compute a part of the outputs of a linear map.

    Args:
        x: (rows, inputs), float32.
        place: of the matrix (``Matrix.place``).
        space: what ``round_rows`` wrote for ``x`` and the matrix.
        out: (rows, outputs), float32.
        part: which part of the outputs, from ``start_of`` it to that of the next.
        parts: how many.
        numbers: format of the matrix in memory.
    """
    whole, rates, sums = space
    (rows, inputs), outputs = x.shape, out.shape[1]
    groups, coded = place[_GROUPS], place[_SCALE] != 0
    size = inputs // groups
    given, row_bytes = np.int64(x.ctypes.data), 4 * inputs
    if coded:
        given, row_bytes = np.int64(whole.ctypes.data), 2 * inputs
    rate, total = np.int64(rates.ctypes.data), np.int64(sums.ctypes.data)
    written = np.int64(out.ctypes.data)
    last = start_of(part + 1, parts, outputs)
    for i in range(start_of(part, parts, outputs), last, TOGETHER):
        weight, bias = place[_WEIGHT] + i * place[_ROW_BYTES], place[_BIAS] + 4 * i
        scale, zero = place[_SCALE] + 4 * i, place[_ZERO] + 4 * i if place[_ZERO] else 0
        for finer in range(2 if place[_FINE] else 1):  # lower bits are added to what there is
            row = 0
            while row < rows:
                written_at = written + 4 * (row * outputs + i)
                added, step = (written_at, outputs) if finer else (bias, 0)
                own = finer * rows + row
                inner = (weight, place[_ROW_BYTES], last - i)
                outer = (given + own * row_bytes, rate + 4 * own, total + 4 * own * groups)
                rest = (size, groups, scale, zero, added, step, written_at, outputs)
                if rows - row >= 5 and (rows - row) % 4 == 1:  # rather than four and one
                    multiply_five(numbers, *inner, *outer, *rest)
                    row += 5
                elif rows - row >= 4:
                    multiply_four(numbers, *inner, *outer, *rest)
                    row += 4
                else:
                    multiply_one(numbers, *inner, *outer, *rest)
                    row += 1


def _entry(numbers):
    def entry(a):
        parts, rows, inputs, outputs = a[1], a[2], a[3], a[4]
        x = carray(address(a[5]), (rows, inputs), np.float32)
        out = carray(address(a[6]), (rows, outputs), np.float32)
        place = carray(address(a[7]), (PLACES,), np.int64)
        space = space_for(rows, inputs)
        round_rows(x, place, space)
        while True:
            part = next_block(a)
            if part >= parts:
                break
            linear_part(x, place, space, out, part, parts, numbers)

    return entry


@functools.cache
def _kernel(numbers: torch.dtype) -> Kernel:
    return Kernel(_entry(MEMORY[numbers]))


class Linear:
    """A linear map of a few rows."""

    def __init__(self, matrix: Matrix, inputs: int) -> None:
        """Record where the matrix stands, and the width of its inputs."""
        self._matrix = matrix  # keeps the tensors alive
        self._place = (ctypes.c_int64 * PLACES)(*matrix.place)
        self._outputs = matrix.bias.shape[0]
        self._table: Any = (ctypes.c_int64 * 8)()
        self._table[3:5] = [inputs, self._outputs]
        self._table[7] = ctypes.addressof(self._place)
        self._kernel = _kernel(matrix.weight.dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x @ weight.T + bias``, (rows, out), of (rows, in), all in float32."""
        x = x.float().contiguous()
        rows, threads = x.shape[0], torch.get_num_threads()
        out = torch.empty(rows, self._outputs)
        self._table[:3] = [0, 8 * threads, rows]
        self._table[5:7] = [x.data_ptr(), out.data_ptr()]
        self._kernel.run(self._table, threads)
        return out


def prepare(numbers: torch.dtype) -> None:
    """Compile the kernel for matrices in one format."""
    _kernel(numbers)
