"""Products of a few rows of inputs with the rows of a matrix, in the processor's vectors.

The time of a step of decoding is that of reading the matrices, if the arithmetic keeps up. A loop
over one row of a matrix and one of inputs does not: it ends in a sum across a vector, and in
numbers that fill no vector. So a row that was read is multiplied by one, four or five rows of
inputs, what is left over is masked, and the sums across the vectors of four rows are taken
together. numba has no such vectors, so this is written for LLVM directly; where a processor's are
shorter, LLVM splits them.

Matrices of codes are multiplied in whole numbers, in ``codes``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinylm.fast.loops.vectors import (
    LANES,
    add,
    at,
    join,
    load,
    masked,
    multiply_add,
    store,
    vector_of,
)

TOGETHER = 4
"""Rows of a matrix in a block, whose sums are taken together."""
_FLOAT, _INT64, _INT32, _INT16, _BYTE = ir.FloatType(), *map(ir.IntType, (64, 32, 16, 8))


class _Side(NamedTuple):
    """What a block is given: addresses and sizes, 64-bit integers."""

    weight: Any
    """Of the first row of the matrix."""
    row_bytes: Any
    """From a row to the next."""
    most: Any
    """Rows that are left, 1 or more; of more than four the first four are multiplied."""
    x: Any
    """(rows, inputs), float32."""
    size: Any
    """Inputs of a row."""
    bias: Any
    """(outputs,), float32, at the first row."""
    out: Any
    """(rows, outputs), float32, at the first row."""
    outputs: Any


def _sums_across(builder: Any, vectors: list[Any]) -> Any:
    """Return the sums across four vectors as one of four numbers."""
    low = [place for i in range(0, LANES, 4) for place in (i, LANES + i, i + 1, LANES + i + 1)]
    high = [place + 2 for place in low]
    while len(vectors) > 1:  # two vectors by turns in one, with half as many terms of each
        half = len(vectors) // 2
        vectors = [
            add(builder, join(builder, a, b, low), join(builder, a, b, high))
            for a, b in zip(vectors[:half], vectors[half:], strict=True)
        ]
    total = vectors[0]
    while total.type.count > TOGETHER:
        half = total.type.count // 2
        low, high = list(range(half)), list(range(half, 2 * half))
        total = add(builder, join(builder, total, total, low), join(builder, total, total, high))
    return total


def _floats(builder: Any, row: Any, place: Any, left: Any) -> Any:
    mask = masked(builder, left, LANES)
    return load(builder, at(builder, row, place, 4), vector_of(_FLOAT), mask)


def _bfloats(builder: Any, row: Any, place: Any, left: Any) -> Any:
    mask = masked(builder, left, LANES)
    held = load(builder, at(builder, row, place, 2), vector_of(_INT16), mask)
    whole = builder.zext(held, vector_of(_INT32))
    bits = builder.shl(whole, ir.Constant(whole.type, [16] * LANES))
    return builder.bitcast(bits, vector_of(_FLOAT))


_FLOATS = {types.float32: _floats, types.uint16: _bfloats}


def _steps(builder: Any, size: Any, lanes: int) -> Any:
    """Yield, while LLVM's code is written, each place of a vector and how many numbers are left."""
    whole, left = builder.sdiv(size, _INT64(lanes)), builder.srem(size, _INT64(lanes))
    with cgutils.for_range(builder, whole) as step:
        yield builder.mul(step.index, _INT64(lanes)), None
    with builder.if_then(builder.icmp_signed(">", left, _INT64(0))):
        yield builder.mul(whole, _INT64(lanes)), left


def _rows_of_matrix(builder: Any, side: _Side) -> list[Any]:
    """Return the addresses of four rows; where fewer are left, the last one stands for others."""
    last = builder.sub(side.most, _INT64(1))
    numbers = [
        builder.select(builder.icmp_signed("<", last, _INT64(k)), last, _INT64(k))
        for k in range(TOGETHER)
    ]
    return [builder.add(side.weight, builder.mul(k, side.row_bytes)) for k in numbers]


def _variables(builder: Any, kind: Any, names: Any) -> Any:
    made = {name: cgutils.alloca_once(builder, kind) for name in names}
    for variable in made.values():
        builder.store(ir.Constant(kind, None), variable)
    return made


def _multiply(builder: Any, read: Any, side: _Side, count: int) -> None:
    vector = vector_of(_FLOAT)
    every = [(r, k) for r in range(count) for k in range(TOGETHER)]
    totals = _variables(builder, vector, every)
    rows = _rows_of_matrix(builder, side)
    given = [at(builder, side.x, builder.mul(_INT64(r), side.size), 4) for r in range(count)]
    # One row of the matrix after the other: of these there is so much that they come from memory,
    # which is read at half the speed by turns.
    for k, row in enumerate(rows):
        for place, left in _steps(builder, side.size, LANES):
            held = read(builder, row, place, left)
            for r, x in enumerate(given):
                given_x = _floats(builder, x, place, left)
                total = builder.load(totals[r, k])
                builder.store(multiply_add(builder, given_x, held, total), totals[r, k])
    sums = [
        _sums_across(builder, [builder.load(totals[r, k]) for k in range(TOGETHER)])
        for r in range(count)
    ]
    mask = masked(builder, side.most, TOGETHER)
    bias = load(builder, side.bias, vector_of(_FLOAT, TOGETHER), mask)
    for r, total in enumerate(sums):
        start = at(builder, side.out, builder.mul(_INT64(r), side.outputs), 4)
        store(builder, start, add(builder, total, bias), mask)


def _multiplier(count: int) -> Any:
    @intrinsic
    def multiply(
        _, numbers, weight, row_bytes, most, x, size, bias, out, outputs,
    ):  # fmt: skip
        def generate(_, builder, __, arguments):
            side = _Side(*arguments[1:])
            few = builder.icmp_signed("<", side.most, _INT64(TOGETHER))
            side = side._replace(most=builder.select(few, side.most, _INT64(TOGETHER)))
            _multiply(builder, _FLOATS[numbers.dtype], side, count)
            return ir.Constant(_BYTE.as_pointer(), None)

        return types.none(numbers, *[types.int64] * len(_Side._fields)), generate

    return multiply


multiply_one = _multiplier(1)
"""Multiply one row of inputs by up to four rows of a matrix; see ``_Side``."""
multiply_four = _multiplier(4)
"""As ``multiply_one``, for four rows of inputs."""
multiply_five = _multiplier(5)
"""As ``multiply_one``, for five, as many as there often are beams."""
