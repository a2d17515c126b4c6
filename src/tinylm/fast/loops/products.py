"""Products of a few rows of inputs with the rows of a matrix, in the processor's vectors.

The time of a step of decoding is that of reading the matrices, if the arithmetic keeps up. A loop
over one row of a matrix and one of inputs does not: it ends in a sum across a vector, and in
numbers that fill no vector. So a row that was read is multiplied by one, four or five rows of
inputs, what is left over is masked, and the sums across the vectors of four rows are taken
together. numba has no such vectors, so this is written for LLVM directly; where a processor's are
shorter, LLVM splits them.

Codes of 8 or 4 bits are read as ``numbers.integers`` packs them, and multiplied as whole numbers by
inputs that are rounded to 16 bits, each row by its largest number (``round_rows``), with one
instruction for a product of two pairs where the processor has it (AVX-512 VNNI, or ``pmaddwd``). In
each group of a row of the matrix

    sum of scale * (code - zero) * x = scale * (sum of code * x - zero * sum of x),

and only what the scales multiply is not exact. Inputs of 16 bits are off by at most 1 / 65,534 of
the largest of their row; where that is too much, two rows of 16 bits stand for one of 31, which
float32 cannot be told from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

TOGETHER = 4
"""Rows of a matrix in a block, whose sums are taken together."""
LONGEST_GROUP = 8192
"""Codes of a group whose products with 16 bits a 32-bit sum holds, in each of 16 sums."""
_LANES = 16
_FLOAT, _INT64, _INT32, _INT16, _BYTE = ir.FloatType(), *map(ir.IntType, (64, 32, 16, 8))
_LOOSE = ("contract", "nsz")  # lets a product and a sum become one instruction


class _Side(NamedTuple):
    """What a block is given: addresses and sizes, 64-bit integers."""

    weight: Any
    """Of the first row of the matrix."""
    row_bytes: Any
    """From a row to the next."""
    most: Any
    """Rows that are left, 1 or more; of more than four the first four are multiplied."""
    x: Any
    """(rows, inputs), float32; of codes int16."""
    rates: Any
    """(rows,), float32: what a row of inputs is multiplied by. Of codes only, as what follows."""
    sums: Any
    """(rows, groups), float32, of the inputs."""
    size: Any
    """Inputs of a group, or of a row."""
    groups: Any
    scale: Any
    """(groups, outputs), float32, at the first row."""
    zero: Any
    """As scale; 0: the codes lie about 0."""
    bias: Any
    """(outputs,), float32, at the first row."""
    bias_step: Any
    """From the bias of a row of inputs to that of the next; 0: they share it."""
    out: Any
    """(rows, outputs), float32, at the first row."""
    outputs: Any


def _vector(kind: Any, lanes: int = _LANES) -> ir.VectorType:
    return ir.VectorType(kind, lanes)


def _join(builder: Any, left: Any, right: Any, places: list[int]) -> Any:
    return builder.shuffle_vector(left, right, ir.Constant(_vector(_INT32, len(places)), places))


def _splat(builder: Any, number: Any, lanes: int = _LANES) -> Any:
    empty = ir.Constant(_vector(number.type, lanes), None)
    return _join(builder, builder.insert_element(empty, number, _INT32(0)), empty, [0] * lanes)


def _mask(builder: Any, left: Any | None, lanes: int) -> Any | None:
    """Return which lanes hold numbers, of which so many are left, 127 at most; None: all do."""
    if left is None:
        return None
    numbers = ir.Constant(_vector(_BYTE, lanes), list(range(lanes)))
    return builder.icmp_signed("<", numbers, _splat(builder, builder.trunc(left, _BYTE), lanes))


def _at(builder: Any, start: Any, index: Any, size: int) -> Any:
    """Return the address of a number of ``size`` bytes."""
    return builder.add(start, builder.mul(index, _INT64(size)))


def _call(builder: Any, name: str, kind: Any, arguments: list[Any], returns: Any) -> Any:
    letter = "f32" if kind.element == _FLOAT else f"i{kind.element.width}"
    signature = ir.FunctionType(returns, [argument.type for argument in arguments])
    module, full = builder.module, f"llvm.masked.{name}.v{kind.count}{letter}.p0"
    return builder.call(cgutils.get_or_insert_function(module, signature, full), arguments)


def _load(builder: Any, start: Any, kind: Any, mask: Any | None = None) -> Any:
    """Load a vector, wherever it begins; what is masked out is 0 and is not read."""
    pointer = builder.inttoptr(start, kind.as_pointer())
    if mask is None:
        return builder.load(pointer, align=1)
    return _call(builder, "load", kind, [pointer, mask, ir.Constant(kind, None)], kind)


def _store(builder: Any, start: Any, vector: Any, mask: Any) -> None:
    pointer = builder.inttoptr(start, vector.type.as_pointer())
    _call(builder, "store", vector.type, [vector, pointer, mask], ir.VoidType())


def _add(builder: Any, left: Any, right: Any) -> Any:
    return builder.fadd(left, right, flags=_LOOSE)


def _multiply_add(builder: Any, left: Any, right: Any, total: Any) -> Any:
    return _add(builder, builder.fmul(left, right, flags=_LOOSE), total)


def _sums_across(builder: Any, vectors: list[Any]) -> Any:
    """Return the sums across four vectors as one of four numbers."""
    low = [place for i in range(0, _LANES, 4) for place in (i, _LANES + i, i + 1, _LANES + i + 1)]
    high = [place + 2 for place in low]
    while len(vectors) > 1:  # two vectors by turns in one, with half as many terms of each
        half = len(vectors) // 2
        vectors = [
            _add(builder, _join(builder, a, b, low), _join(builder, a, b, high))
            for a, b in zip(vectors[:half], vectors[half:], strict=True)
        ]
    total = vectors[0]
    while total.type.count > TOGETHER:
        half = total.type.count // 2
        low, high = list(range(half)), list(range(half, 2 * half))
        total = _add(builder, _join(builder, total, total, low), _join(builder, total, total, high))
    return total


def _floats(builder: Any, row: Any, place: Any, left: Any) -> Any:
    mask = _mask(builder, left, _LANES)
    return _load(builder, _at(builder, row, place, 4), _vector(_FLOAT), mask)


def _bfloats(builder: Any, row: Any, place: Any, left: Any) -> Any:
    mask = _mask(builder, left, _LANES)
    held = _load(builder, _at(builder, row, place, 2), _vector(_INT16), mask)
    whole = builder.zext(held, _vector(_INT32))
    bits = builder.shl(whole, ir.Constant(whole.type, [16] * _LANES))
    return builder.bitcast(bits, _vector(_FLOAT))


def _bytes(builder: Any, row: Any, place: Any, left: Any, from_zero: Any) -> Any:
    lanes = 2 * _LANES
    mask = _mask(builder, left, lanes)
    codes = _load(builder, builder.add(row, place), _vector(_BYTE, lanes), mask)
    # Codes from 0 up are moved down by 128, and so are their zeros.
    flip = builder.select(from_zero, _BYTE(0x80), _BYTE(0))
    return builder.sext(builder.xor(codes, _splat(builder, flip, lanes)), _vector(_INT16, lanes))


def _halves(builder: Any, row: Any, place: Any, left: Any, from_zero: Any) -> Any:
    count = None if left is None else builder.ashr(builder.add(left, _INT64(1)), _INT64(1))
    kind = _vector(_BYTE)
    start = builder.add(row, builder.ashr(place, _INT64(1)))
    pairs = _load(builder, start, kind, _mask(builder, count, _LANES))
    # Codes about 0 are moved up by 8, to be from 0 up.
    flip = builder.select(from_zero, _BYTE(0), _BYTE(0x88))
    wide = _vector(_INT32)
    bytes_ = builder.zext(builder.xor(pairs, _splat(builder, flip)), wide)
    # The first of two codes becomes the lower half of 32 bits, the second the upper half.
    first = builder.lshr(bytes_, ir.Constant(wide, [4] * _LANES))
    second = builder.shl(bytes_, ir.Constant(wide, [16] * _LANES))
    second = builder.and_(second, ir.Constant(wide, [0xF0000] * _LANES))
    return builder.bitcast(builder.or_(first, second), _vector(_INT16, 2 * _LANES))


def _pairs_of_products(builder: Any, left: Any, right: Any) -> Any:
    """Return the products of 32 pairs of int16, two by two added up, as LLVM knows them."""
    wide = _vector(_INT32, left.type.count)
    products = builder.mul(builder.sext(left, wide), builder.sext(right, wide), flags=("nsw",))
    even, odd = list(range(0, wide.count, 2)), list(range(1, wide.count, 2))
    return builder.add(
        _join(builder, products, products, even), _join(builder, products, products, odd)
    )


_FLOATS = {types.float32: _floats, types.uint16: _bfloats}
_CODES = {types.int8: (_bytes, 0.0), types.uint8: (_halves, 8.0)}
"""How codes are read, and which of them stands for 0 where no group has its own."""


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


def _write(builder: Any, side: _Side, totals: Any, count: int, rated: bool) -> None:
    mask = _mask(builder, side.most, TOGETHER)
    for r in range(count):
        own = _at(builder, side.bias, builder.mul(_INT64(r), side.bias_step), 4)
        bias = _load(builder, own, _vector(_FLOAT, TOGETHER), mask)
        total = totals[r]
        if rated:
            rate = _number(builder, side.rates, _INT64(r))
            total = builder.fmul(total, _splat(builder, rate, TOGETHER))
        start = _at(builder, side.out, builder.mul(_INT64(r), side.outputs), 4)
        _store(builder, start, _add(builder, total, bias), mask)


def _number(builder: Any, start: Any, index: Any) -> Any:
    return builder.load(builder.inttoptr(_at(builder, start, index, 4), _FLOAT.as_pointer()))


def _multiply_floats(builder: Any, load: Any, side: _Side, count: int) -> None:
    vector = _vector(_FLOAT)
    every = [(r, k) for r in range(count) for k in range(TOGETHER)]
    totals = _variables(builder, vector, every)
    rows = _rows_of_matrix(builder, side)
    given = [_at(builder, side.x, builder.mul(_INT64(r), side.size), 4) for r in range(count)]
    # One row of the matrix after the other: of these there is so much that they come from memory,
    # which is read at half the speed by turns.
    for k, row in enumerate(rows):
        for place, left in _steps(builder, side.size, _LANES):
            held = load(builder, row, place, left)
            for r, x in enumerate(given):
                given_x = _floats(builder, x, place, left)
                total = builder.load(totals[r, k])
                builder.store(_multiply_add(builder, given_x, held, total), totals[r, k])
    sums = [
        _sums_across(builder, [builder.load(totals[r, k]) for k in range(TOGETHER)])
        for r in range(count)
    ]
    _write(builder, side, sums, count, rated=False)


def _multiply_codes(builder: Any, load: Any, middle: float, side: _Side, count: int) -> None:
    vector, four, lanes = _vector(_FLOAT), _vector(_FLOAT, TOGETHER), 2 * _LANES
    every = [(r, k) for r in range(count) for k in range(TOGETHER)]
    totals = _variables(builder, vector, every)
    shifts = _variables(builder, four, range(count))
    from_zero = builder.icmp_unsigned("!=", side.zero, _INT64(0))
    first_rows = _rows_of_matrix(builder, side)
    inputs = builder.mul(side.size, side.groups)
    mask = _mask(builder, side.most, TOGETHER)
    # Four rows of codes by turns: they are short, and an input that was read serves for all.
    with cgutils.for_range(builder, side.groups) as group:
        start = builder.mul(group.index, side.size)
        given = [
            _at(builder, side.x, builder.add(start, builder.mul(_INT64(r), inputs)), 2)
            for r in range(count)
        ]
        parts = _variables(builder, _vector(_INT32), every)
        for place, left in _steps(builder, side.size, lanes):
            mask_x = _mask(builder, left, lanes)
            x = [
                _load(builder, _at(builder, row, place, 2), _vector(_INT16, lanes), mask_x)
                for row in given
            ]
            at = builder.add(start, place)
            held = [load(builder, row, at, left, from_zero) for row in first_rows]
            for r, k in every:
                products = _pairs_of_products(builder, x[r], held[k])
                builder.store(builder.add(builder.load(parts[r, k]), products), parts[r, k])
        own = builder.mul(group.index, side.outputs)
        scale = _load(builder, _at(builder, side.scale, own, 4), four, mask)
        for r, k in every:
            number = builder.extract_element(scale, _INT32(k))
            part = builder.sitofp(builder.load(parts[r, k]), vector)
            total = builder.load(totals[r, k])
            scaled = _multiply_add(builder, _splat(builder, number), part, total)
            builder.store(scaled, totals[r, k])
        zero = cgutils.alloca_once_value(builder, ir.Constant(four, [middle] * TOGETHER))
        with builder.if_then(from_zero):
            builder.store(_load(builder, _at(builder, side.zero, own, 4), four, mask), zero)
        shift = builder.fmul(scale, builder.load(zero))
        for r in range(count):
            place = builder.add(group.index, builder.mul(_INT64(r), side.groups))
            total = _splat(builder, _number(builder, side.sums, place), TOGETHER)
            builder.store(_multiply_add(builder, shift, total, builder.load(shifts[r])), shifts[r])
    sums = [
        builder.fsub(
            _sums_across(builder, [builder.load(totals[r, k]) for k in range(TOGETHER)]),
            builder.load(shifts[r]),
        )
        for r in range(count)
    ]
    _write(builder, side, sums, count, rated=True)


def _multiplier(count: int) -> Any:
    @intrinsic
    def multiply(
        _, numbers, weight, row_bytes, most, x, rates, sums, size, groups, scale, zero, bias,
        bias_step, out, outputs,
    ):  # fmt: skip
        def generate(_, builder, __, arguments):
            side = _Side(*arguments[1:])
            few = builder.icmp_signed("<", side.most, _INT64(TOGETHER))
            side = side._replace(most=builder.select(few, side.most, _INT64(TOGETHER)))
            if numbers.dtype in _FLOATS:
                _multiply_floats(builder, _FLOATS[numbers.dtype], side, count)
            else:
                _multiply_codes(builder, *_CODES[numbers.dtype], side, count)
            return ir.Constant(_BYTE.as_pointer(), None)

        return types.none(numbers, *[types.int64] * len(_Side._fields)), generate

    return multiply


multiply_one = _multiplier(1)
"""Multiply one row of inputs by up to four rows of a matrix; see ``_Side``."""
multiply_four = _multiplier(4)
"""As ``multiply_one``, for four rows of inputs."""
multiply_five = _multiplier(5)
"""As ``multiply_one``, for five, as many as there often are beams."""
