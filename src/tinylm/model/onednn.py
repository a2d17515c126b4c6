"""Matrix products by oneDNN, which torch carries, with the matrix in the kernel's own order.

A matrix that is multiplied often is brought into that order ("packed") once: 1 ms for 3 million
numbers. In float32 the products then take two thirds of the time of torch's own, in bfloat16 those
with a bias three quarters; products of a few rows take a third to a half. They are the same to
rounding. torch has no public name for this, only the operators that its compiler uses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def can_pack(weight: Tensor) -> bool:
    """Whether a matrix can be packed: on a CPU, in float32 or bfloat16, where torch has oneDNN."""
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def pack(weight: Tensor) -> Tensor:
    """Return a matrix, (out, in), in the order of the kernels; only ``packed_linear`` reads it."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``x @ weight.T + bias``, (..., out), of ``x``, (..., in), all in one format."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return product


def linear_map(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Return the quickest function for ``x @ weight.T + bias``, without gradients.

    Args:
        weight: (out, in), as it is now.
        bias: (out,) or None.
    """
    if not can_pack(weight):
        return lambda x: torch.nn.functional.linear(x, weight, bias)
    packed = pack(weight)
    return lambda x: packed_linear(x, packed, bias)


@contextmanager
def quick_float32_products(wanted: bool = True) -> Iterator[None]:
    """Let every float32 matrix product in the block, backwards too, be oneDNN's.

    torch takes them from MKL, which uses half of an AMD processor. The name of torch's setting,
    "medium", allows bfloat16 products; oneDNN makes use of that only on processors with AMX, so it
    is asked first whether a product that bfloat16 could not hold comes out exactly, and where it
    does not everything stays as it is.

    Args:
        wanted: whether to do anything.
    """
    if not wanted or not _medium_is_exact():
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@functools.cache
def _medium_is_exact() -> bool:
    """Whether torch's "medium" precision computes in float32 here.

    Asked of products of whole numbers of 10 bits: exact in float32, where their sums stay below
    2^24, and not in bfloat16, which has 8.
    """
    generator = torch.Generator().manual_seed(0)
    one, other = (
        torch.randint(-(2**9), 2**9, shape, generator=generator) for shape in ((256, 64), (64, 256))
    )
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        return bool(torch.equal((one.float() @ other.float()).long(), one @ other))
    finally:
        torch.set_float32_matmul_precision(before)
