"""Linear maps of a few rows: matrices in floating point or in packed codes, and their kernel."""

from __future__ import annotations

import ctypes
import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import carray, types
from numba.extending import overload
from torch import Tensor

from tinylm.fast.loops.codes import (
    BLOCK,
    LARGEST,
    LONGEST_GROUP,
    STEP,
    lay_out,
    lay_out_constants,
    multiply_codes,
)
from tinylm.fast.loops.launch import (
    MEMORY,
    Kernel,
    address,
    function,
    inline,
    largest_of,
    next_block,
    threads_for,
)
from tinylm.fast.loops.products import TOGETHER, multiply_five, multiply_four, multiply_one

__all__ = ["LONGEST_GROUP", "Linear", "Matrix", "linear_part", "round_rows", "space_for"]

_TWO, _THREE = LARGEST[2], LARGEST[3]
PLACES = 11
"""Numbers of ``Matrix.place``."""
_WEIGHT, _ROW_BYTES, _GROUPS, _SCALE, _ZERO, _BIAS, _DIVISOR = range(7)
_BITS, _STEPS, _DIGITS, _SUMS = range(7, PLACES)


class Matrix(NamedTuple):
    """A linear map as the kernels read it."""

    weight: Tensor
    """(out, in), float32 or bfloat16; or codes, uint8, as ``codes.lay_out`` orders them."""
    bias: Tensor
    """(out,), float32."""
    scale: Tensor | None = None
    """Of codes, float32, as ``codes.lay_out_constants`` orders them."""
    zero: Tensor | None = None
    """As scale, uint8: codes of 0; None: the middle of the codes."""
    divisor: Tensor | None = None
    """(in,), float32, that inputs are divided by before codes multiply them."""
    bits: int = 8
    """Of a code."""
    digits: int = 2
    """Bytes that inputs are rounded to before codes multiply them."""

    @property
    def place(self) -> list[int]:
        """Where everything stands, and the sizes that the kernels need beside."""
        groups, steps = (1, 0) if self.scale is None else self.weight.shape[1:3]
        return [
            self.weight.data_ptr(),
            self.weight.stride(0) * self.weight.element_size(),
            groups,
            *(0 if part is None else part.data_ptr() for part in (self.scale, self.zero)),
            self.bias.data_ptr(),
            0 if self.divisor is None else self.divisor.data_ptr(),
            *(self.bits, steps, self.digits, self.digits * groups),
        ]

    def nanoseconds(self, rows: int) -> float:
        """Return about how long one thread takes, where the processor's cache holds the matrix."""
        per_nanosecond = 12 * 4 / self.weight.element_size()
        if self.scale is not None:
            per_nanosecond = 64 * self.bits / 8  # bytes
        return self.weight.numel() / per_nanosecond * (rows + 1) / 2

    @property
    def room(self) -> tuple[int, int]:
        """Bytes and sums that ``round_rows`` writes of a row of inputs."""
        if self.scale is None:
            return 0, 0
        groups, steps = self.weight.shape[1:3]
        return self.digits * groups * steps * STEP, self.digits * groups


def coded(
    codes: Tensor,
    bias: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
    divisor: Tensor | None = None,
    bits: int = 8,
    digits: int = 2,
) -> Matrix:
    """Return a matrix of codes.

    Args:
        codes: (out, in), int8 about 0, or uint8 from 0 up.
        bias: (out,), float32.
        scale: (out or 1, groups), float32.
        zero: as scale, uint8, of codes from 0 up.
        divisor: (in,), float32: the inputs are divided by it.
        bits: of a code, 8 or fewer.
        digits: bytes of an input, of ``codes.DIGITS``.
    """
    outputs, bits = len(codes), 8 if bits > 4 else 4
    if zero is None:
        codes = (codes.short() + (1 << bits - 1)).to(torch.uint8)
    return Matrix(
        lay_out(codes, scale.shape[1], bits),
        bias,
        lay_out_constants(scale, outputs),
        None if zero is None else lay_out_constants(zero, outputs),
        divisor,
        bits,
        digits,
    )


@inline
def space_for(rows, size, sums):
    """Return arrays for ``round_rows``, of as much as ``Matrix.room`` says, or more."""
    return (
        np.empty(rows * size, np.int8),
        np.empty(rows, np.float32),
        np.empty(rows * sums, np.int32),
    )


@function
def round_rows(x, place, space):
    """Round each row of inputs by its largest number, if the matrix holds codes.

    Args:
        x: (rows, inputs), float32.
        place: of the matrix.
        space: as ``space_for`` gives it. Written: the digits of the whole numbers, the highest
            digit of all rows first, groups filled up with 0; what each row is multiplied by; and
            the sums of the digits, by digit, row and group.
    """
    if place[_SCALE] == 0:
        return
    whole, rates, sums = space
    (rows, inputs), groups, padded = x.shape, place[_GROUPS], place[_STEPS] * STEP
    three, size = place[_DIGITS] == 3, inputs // groups
    divided = inputs if place[_DIVISOR] else 0
    divisor = carray(address(place[_DIVISOR]), (divided,), np.float32)
    given, sizes = np.empty(inputs, np.float32), np.empty(inputs, np.float32)
    numbers = np.empty(inputs, np.int32)
    for row in range(rows):
        for j in range(inputs):
            given[j] = x[row, j]
        for j in range(divided):
            given[j] /= divisor[j]
        for j in range(inputs):
            sizes[j] = abs(given[j])
        largest = np.float64(largest_of(sizes))
        most = np.float64(_THREE if three else _TWO)
        rates[row] = np.float32(largest / most)
        per_step = most / largest if largest > 0 else np.float64(0)
        for j in range(inputs):
            numbers[j] = np.int32(np.floor(np.float64(given[j]) * per_step + 0.5))
        for group in range(groups):
            first = row * groups + group
            for digit in range(place[_DIGITS] - 1, -1, -1):
                at = digit * rows * groups + first
                digits = whole[at * padded : (at + 1) * padded]
                total = np.int32(0)
                for j in range(size):
                    number = numbers[group * size + j]
                    low = ((number + np.int32(128)) & np.int32(255)) - np.int32(128)
                    numbers[group * size + j] = (number - low) >> np.int32(8)
                    digits[j] = np.int8(low)
                    total += low
                for j in range(size, padded):
                    digits[j] = 0
                sums[at] = total


@inline
def start_of(part, parts, outputs):
    """Return the first output of a part; each is whole blocks of outputs."""
    blocks = (outputs + BLOCK - 1) // BLOCK
    return min(part * blocks // parts * BLOCK, outputs)


def linear_part(
    x: Any, place: Any, space: Any, out: Any, part: int, parts: int, numbers: Any
) -> None:
    """Compute a part of the outputs of a linear map.

    Args:
        x: (rows, inputs), float32.
        place: of the matrix (``Matrix.place``).
        space: what ``round_rows`` wrote for ``x`` and the matrix.
        out: (rows, outputs), float32.
        part: which part of the outputs, from ``start_of`` it to that of the next.
        parts: how many.
        numbers: format of the matrix in memory; of codes uint8.
    """
    raise NotImplementedError("only in compiled code")


@overload(linear_part, strict=False)
def _linear_part(x, place, space, out, part, parts, numbers):
    if numbers.dtype == types.uint8:
        return lambda x, place, space, out, part, parts, numbers: _codes_part(
            x, place, space, out, part, parts
        )
    return lambda x, place, space, out, part, parts, numbers: _floats_part(
        x, place, out, part, parts, numbers
    )


@inline
def _together(rows):
    """Return how many of these rows to multiply at once: five rather than four and one."""
    if rows >= 5 and rows % 4 == 1:
        return 5
    return 4 if rows >= 4 else 1


@function
def _floats_part(x, place, out, part, parts, numbers):
    (rows, inputs), outputs = x.shape, out.shape[1]
    given, written = np.int64(x.ctypes.data), np.int64(out.ctypes.data)
    last = start_of(part + 1, parts, outputs)
    for i in range(start_of(part, parts, outputs), last, TOGETHER):
        weight, bias = place[_WEIGHT] + i * place[_ROW_BYTES], place[_BIAS] + 4 * i
        row = 0
        while row < rows:
            outer = (given + row * 4 * inputs, inputs)
            rest = (bias, written + 4 * (row * outputs + i), outputs)
            count = _together(rows - row)
            if count == 5:
                multiply_five(numbers, weight, place[_ROW_BYTES], last - i, *outer, *rest)
            elif count == 4:
                multiply_four(numbers, weight, place[_ROW_BYTES], last - i, *outer, *rest)
            else:
                multiply_one(numbers, weight, place[_ROW_BYTES], last - i, *outer, *rest)
            row += count


@function
def _codes_part(x, place, space, out, part, parts):
    whole, rates, sums = space
    rows, outputs, groups, steps = len(x), out.shape[1], place[_GROUPS], place[_STEPS]
    given, total = np.int64(whole.ctypes.data), np.int64(sums.ctypes.data)
    rate, written = np.int64(rates.ctypes.data), np.int64(out.ctypes.data)
    inputs = groups * steps * STEP
    last = start_of(part + 1, parts, outputs)
    for i in range(start_of(part, parts, outputs), last, BLOCK):
        block = i // BLOCK
        weight = place[_WEIGHT] + block * place[_ROW_BYTES]
        scale = place[_SCALE] + 4 * BLOCK * groups * block
        zero = place[_ZERO] + BLOCK * groups * block if place[_ZERO] else 0
        row = 0
        while row < rows:
            count = _together(rows - row)
            multiply_codes(
                *(place[_BITS], place[_DIGITS], count, weight, last - i),
                *(given + row * inputs, rows * inputs, rate + 4 * row),
                *(total + 4 * row * groups, 4 * rows * groups, steps, groups, scale, zero),
                *(place[_BIAS] + 4 * i, written + 4 * (row * outputs + i), outputs),
            )
            row += count


def _entry(numbers):
    def entry(a):
        parts, rows, inputs, outputs = a[1], a[2], a[3], a[4]
        x = carray(address(a[5]), (rows, inputs), np.float32)
        out = carray(address(a[6]), (rows, outputs), np.float32)
        place = carray(address(a[7]), (PLACES,), np.int64)
        size = place[_DIGITS] * place[_GROUPS] * place[_STEPS] * STEP
        space = space_for(rows, size, place[_SUMS])
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
        rows = x.shape[0]
        threads = threads_for(self._matrix.nanoseconds(rows))
        out = torch.empty(rows, self._outputs)
        self._table[:3] = [0, 8 * threads, rows]
        self._table[5:7] = [x.data_ptr(), out.data_ptr()]
        self._kernel.run(self._table, threads)
        return out


def prepare(numbers: torch.dtype) -> None:
    """Compile the kernel for matrices in one format."""
    _kernel(numbers)
