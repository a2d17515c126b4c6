"""Products of a few rows of inputs with matrices of codes of 8 or 4 bits, in whole numbers.

In each group of a row of the matrix

    sum of scale * (code - zero) * x = scale * sum of (code - zero) * x,

and with inputs rounded to whole numbers (``round_rows`` in ``matrices``) the sum on the right is
exact. A processor with AVX-512 VNNI multiplies 64 bytes of codes by 64 bytes of inputs and adds
the products up by fours in one instruction. So an input is two or three bytes, each a digit from
-128 to 127 of a number to the base 256, and the sums of the digits are put together once a group:

- of two bytes, 16 bits, an input is off by at most 1 / 65,278 of the largest of its row;
- of three, 24 bits, by 1 / 16,711,422, which float32 cannot be told from.

Codes are laid out for this (``lay_out``), a block of 16 rows after the other. In a block, group
after group, a step holds eight inputs of the 16 rows: four bytes of a row side by side, so that
every lane of a vector is a row, and no sum is ever taken across a vector. Two vectors of 8 bits, of
four inputs each; or one of 4 bits, the first four inputs in the lower halves of its bytes, the
others in the upper ones. Groups are filled up to whole steps with inputs of 0.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from tinylm.fast.loops.vectors import (
    at,
    load,
    masked,
    multiply_add,
    number_at,
    splat,
    store,
    vector_of,
)

BLOCK = 16
"""Rows of a matrix in a block."""
STEP = 8
"""Inputs of a step."""
LONGEST_GROUP = 65_536
"""Codes of a group whose products with a byte a 32-bit sum holds."""
DIGITS = (2, 3)
"""Bytes of an input."""
COUNTS = (5, 4, 1)
"""Rows of inputs that are multiplied at once; five, as many as there often are beams."""
LARGEST = {2: 127 * 256 + 127, 3: (127 * 256 + 127) * 256 + 127}
"""Largest input of so many bytes, each at most 127."""
_FLOAT, _INT64, _INT32, _INT16, _BYTE = ir.FloatType(), *map(ir.IntType, (64, 32, 16, 8))
_BYTES = 4 * BLOCK


def padded(size: int) -> int:
    """Return how many inputs a group of this size takes."""
    return -(-size // STEP) * STEP


def lay_out(codes: Tensor, groups: int, bits: int) -> Tensor:
    """Return codes in the order that the products read them.

    Args:
        codes: (out, in), uint8, from 0 up.
        groups: of a row.
        bits: 8 or 4.

    Returns:
        uint8, (blocks, groups, steps, 128 or 64 bytes).
    """
    outputs, inputs = codes.shape
    size = inputs // groups
    steps = padded(size) // STEP
    whole = codes.new_zeros(-(-outputs // BLOCK) * BLOCK, groups, steps * STEP)
    whole[:outputs, :, :size] = codes.view(outputs, groups, size)
    # (blocks, rows, groups, steps, halves, inputs) with the rows of a half side by side
    split = whole.view(-1, BLOCK, groups, steps, 2, STEP // 2).permute(0, 2, 3, 4, 1, 5)
    if bits == 4:
        split = split[:, :, :, 0] | split[:, :, :, 1] << 4
    return split.reshape(-1, groups, steps, _BYTES if bits == 4 else 2 * _BYTES).contiguous()


def lay_out_constants(constants: Tensor, outputs: int) -> Tensor:
    """Return the numbers of groups, (out or 1, groups), as (blocks, groups, 16)."""
    blocks = -(-outputs // BLOCK)
    whole = constants.new_zeros(blocks * BLOCK, constants.shape[1])
    whole[:outputs] = constants
    return whole.view(blocks, BLOCK, -1).transpose(1, 2).contiguous()


class _Side(NamedTuple):
    """What a block is given: addresses and sizes, 64-bit integers."""

    weight: Any
    """Of the block."""
    most: Any
    """Rows of the matrix that are left, 1 or more."""
    x: Any
    """(digits, rows, inputs), int8."""
    digit_bytes: Any
    """From a digit of all inputs to the next lower one."""
    rates: Any
    """(rows,), float32: what a row of inputs is multiplied by."""
    sums: Any
    """(digits, rows, groups), int32, of the inputs."""
    digit_sums: Any
    """Bytes from those of a digit to those of the next lower one."""
    steps: Any
    """Of a group."""
    groups: Any
    scale: Any
    """(groups, 16), float32."""
    zero: Any
    """(groups, 16), uint8; 0: all are the middle of the codes."""
    bias: Any
    """(outputs,), float32, at the first row."""
    out: Any
    """(rows, outputs), float32, at the first row."""
    outputs: Any


def dot(builder: Any, total: Any, codes: Any, x: Any, vnni: bool) -> Any:
    """Return sums, 16 of int32, with the products of bytes added, four to each.

    Args:
        builder: of LLVM's code.
        total: the sums.
        codes: 16 of int32, of four bytes each, from 0 to 255.
        x: likewise, from -128 to 127.
        vnni: whether the processor has an instruction for it.
    """
    wide = vector_of(_INT32, BLOCK)
    if vnni:
        kind = ir.FunctionType(wide, [wide] * 3)
        name = "llvm.x86.avx512.vpdpbusd.512"
        return builder.call(
            cgutils.get_or_insert_function(builder.module, kind, name), [total, codes, x]
        )
    pairs = vector_of(_INT16, 2 * BLOCK)
    eight = ir.Constant(pairs, [8] * pairs.count)
    codes, x = builder.bitcast(codes, pairs), builder.bitcast(x, pairs)
    even = builder.and_(codes, ir.Constant(pairs, [255] * pairs.count))
    odd = builder.lshr(codes, eight)
    for left, right in (
        (even, builder.ashr(builder.shl(x, eight), eight)),
        (odd, builder.ashr(x, eight)),
    ):
        total = builder.add(total, _pairs_of_products(builder, left, right))
    return total


def _pairs_of_products(builder: Any, left: Any, right: Any) -> Any:
    """Return the products of 32 pairs of int16, two by two added up, as LLVM knows them."""
    wide = vector_of(_INT32, left.type.count)
    products = builder.mul(builder.sext(left, wide), builder.sext(right, wide), flags=("nsw",))
    parts = [
        builder.shuffle_vector(
            products, products, ir.Constant(vector_of(_INT32, BLOCK), list(range(i, 2 * BLOCK, 2)))
        )
        for i in (0, 1)
    ]
    return builder.add(*parts)


def _halves(builder: Any, start: Any, bits: int) -> list[Any]:
    """Return the codes of a step, four inputs of 16 rows in a vector, as 16 of int32."""
    wide = vector_of(_INT32, BLOCK)
    if bits == 8:
        return [load(builder, builder.add(start, _INT64(i * _BYTES)), wide) for i in (0, 1)]
    both = load(builder, start, wide)
    low = ir.Constant(wide, [0x0F0F0F0F] * BLOCK)
    upper = builder.lshr(both, ir.Constant(wide, [4] * BLOCK))
    return [builder.and_(half, low) for half in (both, upper)]


def _multiply(builder: Any, side: _Side, kind: tuple[int, int, int], vnni: bool) -> None:
    bits, digits, count = kind
    wide, vector = vector_of(_INT32, BLOCK), vector_of(_FLOAT, BLOCK)
    every = [(r, d) for r in range(count) for d in range(digits)]
    chains = 1 if count > 1 else 2  # sums that do not wait for each other
    group_bytes = builder.mul(side.steps, _INT64(STEP * BLOCK * bits // 8))
    group_inputs = builder.mul(side.steps, _INT64(STEP))
    inputs = builder.mul(group_inputs, side.groups)
    flat = ir.Constant(vector, [0.0] * BLOCK)
    totals = {r: cgutils.alloca_once_value(builder, flat) for r in range(count)}
    parts = {(r, d, c): cgutils.alloca_once(builder, wide) for r, d in every for c in range(chains)}
    given = {
        (r, d): builder.add(
            builder.add(side.x, builder.mul(_INT64(r), inputs)),
            builder.mul(_INT64(d), side.digit_bytes),
        )
        for r, d in every
    }
    has_zeros = builder.icmp_unsigned("!=", side.zero, _INT64(0))
    middle = ir.Constant(wide, [1 << bits - 1] * BLOCK)
    zero = cgutils.alloca_once_value(builder, middle)
    with cgutils.for_range(builder, side.groups) as group:
        with builder.if_then(has_zeros):
            own = builder.add(side.zero, builder.mul(group.index, _INT64(BLOCK)))
            held = load(builder, own, vector_of(_BYTE, BLOCK))
            builder.store(builder.zext(held, wide), zero)
        codes_of_zero = builder.load(zero)
        for r, d in every:
            place = builder.add(group.index, builder.mul(_INT64(r), side.groups))
            start = builder.add(side.sums, builder.mul(_INT64(d), side.digit_sums))
            total = splat(builder, number_at(builder, start, place, _INT32), BLOCK)
            builder.store(builder.neg(builder.mul(codes_of_zero, total)), parts[r, d, 0])
            for c in range(1, chains):
                builder.store(ir.Constant(wide, None), parts[r, d, c])
        first = builder.add(side.weight, builder.mul(group.index, group_bytes))
        first_input = builder.mul(group.index, group_inputs)
        with cgutils.for_range(builder, side.steps) as step:
            offset = builder.mul(step.index, _INT64(STEP * BLOCK * bits // 8))
            place = builder.add(first_input, builder.mul(step.index, _INT64(STEP)))
            halves = _halves(builder, builder.add(first, offset), bits)
            for half, codes in enumerate(halves):
                inner = builder.add(place, _INT64(half * STEP // 2))
                for r, d in every:
                    four = number_at(builder, builder.add(given[r, d], inner), _INT64(0), _INT32)
                    x = splat(builder, four, BLOCK)
                    sums = parts[r, d, half % chains]
                    builder.store(dot(builder, builder.load(sums), codes, x, vnni), sums)
        own = builder.mul(group.index, _INT64(BLOCK))
        scale = load(builder, at(builder, side.scale, own, 4), vector)
        for r in range(count):
            whole = None
            for d in range(digits):
                part = builder.load(parts[r, d, 0])
                for c in range(1, chains):
                    part = builder.add(part, builder.load(parts[r, d, c]))
                part = builder.sitofp(part, vector)
                if whole is not None:
                    base = ir.Constant(vector, [256.0] * BLOCK)
                    part = multiply_add(builder, whole, base, part)
                whole = part
            total = builder.load(totals[r])
            builder.store(multiply_add(builder, whole, scale, total), totals[r])
    mask = masked(builder, side.most, BLOCK)
    bias = load(builder, side.bias, vector, mask)
    for r in range(count):
        rate = splat(builder, number_at(builder, side.rates, _INT64(r), _FLOAT), BLOCK)
        start = at(builder, side.out, builder.mul(_INT64(r), side.outputs), 4)
        store(builder, start, multiply_add(builder, builder.load(totals[r]), rate, bias), mask)


def has_dot(context: Any) -> bool:
    """Whether the processor that numba compiles for has the instruction of ``dot``."""
    return "+avx512vnni" in context.codegen().magic_tuple()[2]


@intrinsic
def multiply_codes(
    _, bits, digits, count, weight, most, x, digit_bytes, rates, sums, digit_sums, steps, groups,
    scale, zero, bias, out, outputs,
):  # fmt: skip
    """Multiply some rows of inputs by up to 16 rows of a matrix; see ``_Side``.

    Args:
        _: of numba.
        bits: of a code, 8 or 4.
        digits: of an input, of ``DIGITS``.
        count: rows of inputs, of ``COUNTS``.
    """

    def generate(context, builder, __, arguments):
        wanted, side = arguments[:3], _Side(*arguments[3:])
        few = builder.icmp_signed("<", side.most, _INT64(BLOCK))
        side = side._replace(most=builder.select(few, side.most, _INT64(BLOCK)))
        for kind in itertools.product((8, 4), DIGITS, COUNTS):
            same = [
                builder.icmp_signed("==", given, _INT64(number))
                for given, number in zip(wanted, kind, strict=True)
            ]
            with builder.if_then(functools.reduce(builder.and_, same)):
                _multiply(builder, side, kind, has_dot(context))
        return ir.Constant(_BYTE.as_pointer(), None)

    return types.none(*[types.int64] * (3 + len(_Side._fields))), generate
