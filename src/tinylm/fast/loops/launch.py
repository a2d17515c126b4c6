"""What every compiled loop is made of: threads, blocks of work, number formats, exp.

A kernel is a function of one argument, a table of 64-bit integers: the number of the next block of
work, the number of blocks, then addresses and sizes. All threads run it and take blocks until there
are none. What a block computes depends on the block alone, so results do not depend on the threads.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import cfunc, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from torch import Tensor

from tinylm.fast.loops import GOMP

LOOSE = {"reassoc", "contract", "nsz", "arcp"}
"""Freedom for the compiler to sum in any order; NaN and infinity stay what they are.

A loop that sums one array must not write to another: the compiler would then look at every call
whether the two overlap, and sum in another order where they stand so close in memory that it
cannot tell. Such a sum differs from run to run by a rounding, and with it all that is trained.
"""
WAKING = 150_000
"""Nanoseconds of work for one thread from which the others are worth waking: it takes some 50,000,
since they sleep between two calls."""
_PATIENCE = 2000  # reads of a number before the thread yields its processor: some 50 us
MEMORY = {
    torch.float32: np.float32,
    torch.bfloat16: np.uint16,
    torch.int8: np.int8,
    torch.uint8: np.uint8,
}
"""Format of the array that a kernel sees."""
_TABLE = types.CPointer(types.int64)
_gomp_parallel = ctypes.CDLL(str(GOMP)).GOMP_parallel
_gomp_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
_gomp_parallel.restype = None
inline: Callable[..., Any] = njit(fastmath=LOOSE, error_model="numpy", inline="always")
"""Decorates a part of a kernel that is compiled into it."""
function: Callable[..., Any] = njit(fastmath=LOOSE, error_model="numpy")
"""Decorates one that is compiled by itself, once, which takes less time where it is long."""


class Kernel:
    """A compiled loop that runs on torch's threads."""

    def __init__(self, entry: Callable[[Any], None]) -> None:
        """Compile it, or take it from the cache beside its source.

        Args:
            entry: takes the table; see ``next_block``, ``floats``, ``real``.
        """
        settings: dict[str, Any] = {"fastmath": LOOSE, "error_model": "numpy"}
        try:
            compiled = cfunc(types.void(_TABLE), cache=True, **settings)(entry)
        except RuntimeError:  # no folder to keep a cache in may be written to
            compiled = cfunc(types.void(_TABLE), **settings)(entry)
        self._compiled = compiled  # keeps the compiled code alive
        self._address = compiled.address

    def __call__(self, blocks: int, *arguments: Tensor | int | float) -> None:
        """Run it on so many blocks of work.

        Args:
            blocks: how many.
            arguments: the rest of the table. Of a tensor its address, so it must be contiguous and
                of the format that the kernel reads.
        """
        table = [0, blocks]
        for argument in arguments:
            if isinstance(argument, Tensor):
                table.append(argument.data_ptr())
            else:
                table.append(argument if isinstance(argument, int) else bits_of(argument))
        held = (ctypes.c_int64 * len(table))(*table)
        self.run(held, max(min(torch.get_num_threads(), blocks), 1))

    def run(self, table: Any, threads: int) -> None:
        """Run it on a table that is filled already, a ctypes array of int64."""
        _gomp_parallel(self._address, table, threads, 0)


def threads_for(nanoseconds: float) -> int:
    """Return how many threads to give work that takes one thread about so long: all, or one."""
    return torch.get_num_threads() if nanoseconds >= WAKING else 1


def by_format(entry: Callable[[Any], Callable[[Any], None]]) -> dict[torch.dtype, Kernel]:
    """Compile an entry for each number format; it is given the one of the array in memory."""
    return {
        torch.float32: Kernel(entry(np.float32)),
        torch.bfloat16: Kernel(entry(np.uint16)),
    }


def bits_of(number: float) -> int:
    """Return the integer under which a float stands in a table; ``real`` reads it."""
    bits: int = struct.unpack("q", struct.pack("d", number))[0]
    return bits


def blocks_of(size: int, length: int) -> int:
    """Return how many blocks of ``size`` there are in ``length``."""
    return -(-length // size)


@intrinsic
def fetch_add(context: Any, table: Any, index: Any, amount: Any) -> Any:
    """Add to a number of the table and return what it was, as one step for all threads."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        place = builder.gep(arguments[0], [arguments[1]])
        return builder.atomic_rmw("add", place, arguments[2], "acq_rel")

    return types.int64(_TABLE, types.int64, types.int64), generate


@intrinsic
def address(context: Any, number: Any) -> Any:
    """Turn a number into the address that it is, for ``carray``."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@intrinsic
def fetch_early(context: Any, array: Any, index: Any) -> Any:
    """Have a number of an array, given by where it stands in memory, fetched for a later read."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        data = context.make_array(array)(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, *[ir.IntType(32)] * 3])
        called = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(called, [place, *(ir.IntType(32)(i) for i in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


def _bitcast(to: Any, from_: Any, kind: Any) -> Any:
    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], kind)

    return to(from_), generate


@intrinsic
def float_of_bits(context: Any, bits: Any) -> Any:
    """Return the float32 of these 32 bits."""
    return _bitcast(types.float32, types.int32, ir.FloatType())


@intrinsic
def bits_of_float(context: Any, number: Any) -> Any:
    """Return the 32 bits of a float32."""
    return _bitcast(types.int32, types.float32, ir.IntType(32))


@intrinsic
def real(context: Any, number: Any) -> Any:
    """Return the number that was put into the table as a float."""
    return _bitcast(types.float64, types.int64, ir.DoubleType())


@inline
def next_block(table):
    """Return the next block of work; there are none left if it is not below ``table[1]``."""
    return fetch_add(table, 0, 1)


_sched_yield = types.ExternalFunction("sched_yield", types.int32())


@inline
def wait_for(table, counter, amount):
    """Wait until a number of the table, which other threads raise, is at least ``amount``."""
    looks = 0
    while fetch_add(table, counter, 0) < amount:
        looks += 1
        if looks > _PATIENCE:  # the other thread may not be running: more threads than processors
            _sched_yield()


@inline
def sum_when_last(table, counter, parts, out):
    """Sum the parts' results, in their order, in the thread that ends the last of them.

    Args:
        table: of the kernel.
        counter: place of a 0 in the table, with which the parts are counted.
        parts: (parts, …) float32, one of which this thread has just written.
        out: (…), their sum.
    """
    if fetch_add(table, counter, 1) == len(parts) - 1:
        flat, whole = parts.reshape(len(parts), -1), out.reshape(-1)
        whole[:] = flat[0]
        for part in range(1, len(parts)):
            more = flat[part]
            for j in range(len(whole)):
                whole[j] += more[j]


def widen(number: Any) -> Any:
    """Return the float32 of a number: of one, of an 8-bit integer, of a bfloat16 in 16 bits."""
    raise NotImplementedError("only in compiled code")


@overload(widen, inline="always", strict=False)
def _widen(number: Any) -> Any:
    if number == types.uint16:
        return lambda number: float_of_bits(np.int32(np.uint32(number) << np.uint32(16)))
    if number == types.int8:
        return lambda number: np.float32(number)  # noqa: PLW0108 - numba needs a function
    return lambda number: number


def store(array: Any, index: Any, number: Any) -> Any:
    """Write a float32 into an array of float32, or of bfloat16, rounded to the nearest."""
    raise NotImplementedError("only in compiled code")


@overload(store, inline="always", strict=False)
def _store(array: Any, index: Any, number: Any) -> Any:
    if array.dtype == types.uint16:

        def rounded(array, index, number):
            bits = np.uint32(bits_of_float(np.float32(number)))
            to_even = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
            array[index] = np.uint16((bits + to_even) >> np.uint32(16))

        return rounded

    def as_it_is(array, index, number):
        array[index] = number

    return as_it_is


@inline
def ordered(number):
    """Return an integer that compares as the float32 does: the maximum of many is found quicker."""
    bits = bits_of_float(number)
    return bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))


@inline
def unordered(integer):
    """Return the float32 of which ``ordered`` made this integer."""
    return float_of_bits(integer ^ ((integer >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@inline
def largest_of(row):
    """Return the largest number of a row of float32."""
    largest = np.int32(-(2**31))
    for j in range(len(row)):
        largest = max(largest, ordered(row[j]))
    return unordered(largest)


@inline
def exp(x):
    """Return e^x of a float32 that is 0 or less, to 2 units in the last place.

    2^whole * 2^part of x / ln 2, part in -1/2 .. 1/2, by the polynomial of degree 6 that is nearest
    to it there. Below 2^-125 it gives 0: numbers below 2^-126 take the processor many times longer.
    """
    power = x * np.float32(1.4426950408889634)
    tiny = power < np.float32(-125)
    power = np.float32(0) if tiny else power
    whole = np.floor(power + np.float32(0.5))
    part = power - whole
    y = np.float32(1.5403530393381609e-4)
    y = y * part + np.float32(1.3333558146428443e-3)
    y = y * part + np.float32(9.618129107628477e-3)
    y = y * part + np.float32(5.550410866482158e-2)
    y = y * part + np.float32(2.402265069591007e-1)
    y = y * part + np.float32(6.931471805599453e-1)
    y = y * part + np.float32(1)
    y *= float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))
    return np.float32(0) if tiny else y
