"""What numba has no word for, written for LLVM directly: vectors, wherever they stand in memory."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

LANES = 16
LOOSE = ("contract", "nsz")
"""Freedom for a product and a sum to become one instruction."""
_FLOAT, _INT64, _INT32, _BYTE = ir.FloatType(), *map(ir.IntType, (64, 32, 8))


def vector_of(kind: Any, lanes: int = LANES) -> ir.VectorType:
    """Return the type of a vector."""
    return ir.VectorType(kind, lanes)


def join(builder: Any, left: Any, right: Any, places: list[int]) -> Any:
    """Return a vector of some numbers of two others, that stand one after the other."""
    return builder.shuffle_vector(left, right, ir.Constant(vector_of(_INT32, len(places)), places))


def splat(builder: Any, number: Any, lanes: int = LANES) -> Any:
    """Return a vector of one number."""
    empty = ir.Constant(vector_of(number.type, lanes), None)
    return join(builder, builder.insert_element(empty, number, _INT32(0)), empty, [0] * lanes)


def masked(builder: Any, left: Any | None, lanes: int) -> Any | None:
    """Return which lanes hold numbers, of which so many are left, 127 at most; None: all do."""
    if left is None:
        return None
    numbers = ir.Constant(vector_of(_BYTE, lanes), list(range(lanes)))
    return builder.icmp_signed("<", numbers, splat(builder, builder.trunc(left, _BYTE), lanes))


def at(builder: Any, start: Any, index: Any, size: int) -> Any:
    """Return the address of a number of ``size`` bytes."""
    return builder.add(start, builder.mul(index, _INT64(size)))


def _call(builder: Any, name: str, kind: Any, arguments: list[Any], returns: Any) -> Any:
    letter = "f32" if kind.element == _FLOAT else f"i{kind.element.width}"
    signature = ir.FunctionType(returns, [argument.type for argument in arguments])
    module, full = builder.module, f"llvm.masked.{name}.v{kind.count}{letter}.p0"
    return builder.call(cgutils.get_or_insert_function(module, signature, full), arguments)


def load(builder: Any, start: Any, kind: Any, mask: Any | None = None) -> Any:
    """Load a vector, wherever it begins; what is masked out is 0 and is not read."""
    pointer = builder.inttoptr(start, kind.as_pointer())
    if mask is None:
        return builder.load(pointer, align=1)
    return _call(builder, "load", kind, [pointer, mask, ir.Constant(kind, None)], kind)


def store(builder: Any, start: Any, vector: Any, mask: Any) -> None:
    """Store a vector, wherever it begins, but for what is masked out."""
    pointer = builder.inttoptr(start, vector.type.as_pointer())
    _call(builder, "store", vector.type, [vector, pointer, mask], ir.VoidType())


def number_at(builder: Any, start: Any, index: Any, kind: Any) -> Any:
    """Load the number at an index from an address on, wherever it stands."""
    size = kind.width // 8 if isinstance(kind, ir.IntType) else 4
    pointer = builder.inttoptr(at(builder, start, index, size), kind.as_pointer())
    return builder.load(pointer, align=1)


def add(builder: Any, left: Any, right: Any) -> Any:
    """Return a sum of floating-point numbers."""
    return builder.fadd(left, right, flags=LOOSE)


def multiply_add(builder: Any, left: Any, right: Any, total: Any) -> Any:
    """Return ``left * right + total``."""
    return add(builder, builder.fmul(left, right, flags=LOOSE), total)
