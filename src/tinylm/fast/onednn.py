"""Matrix products by oneDNN, which torch carries, with the matrix in the kernel's own order.

A matrix that is multiplied often is brought into that order ("packed") once: 1 ms for 3 million
numbers. In float32 the products then take two thirds of the time of torch's own, in bfloat16 those
with a bias three quarters; products of a few rows take a third to a half. They are the same to
rounding. torch has no public name for this, only the operators that its compiler uses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from tinylm.fast import loops


@functools.cache
def has_onednn() -> bool:
    """Whether torch was built with oneDNN and its operators."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def can_pack(weight: Tensor) -> bool:
    """Whether a matrix can be packed: on a CPU, in float32 or bfloat16, where torch has oneDNN."""
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and has_onednn()
    )


def pack(weight: Tensor) -> Tensor:
    """Return a matrix, (out, in), in the order of the kernels; only ``onednn_linear`` reads it."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
    """Return ``x @ weight.T + bias``, (..., out), or ReLU of it, without gradients.

    Args:
        x: (..., in).
        weight: (out, in), as it is or as ``pack`` gives it; all in one format.
        bias: (out,) or None.
        relu: whether to set what is below 0 to 0.
    """
    after = "relu" if relu else "none"
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], "")
    return product


def input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return ``gradient @ weight``, (rows, in), as ``linear_map``'s products are computed.

    Args:
        gradient: (rows, out).
        weight: (out, in), as it is.
    """
    if not _slower_elsewhere(gradient):
        return gradient @ weight
    return onednn_linear(gradient, weight.T, None)


def weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """Return ``gradient.T @ x``, (out, in), contiguous.

    Args:
        gradient: (rows, out).
        x: (rows, in).
    """
    if not _slower_elsewhere(gradient):
        return gradient.T @ x
    # The operator needs its first matrix in one piece, so that is the narrower one.
    if x.shape[1] < gradient.shape[1]:
        return _transposed(onednn_linear(_transposed(x), gradient.T, None))
    return onednn_linear(_transposed(gradient), x.T, None)


def _transposed(matrix: Tensor) -> Tensor:
    """Return ``matrix.T`` in one piece."""
    return loops.transpose.transposed(matrix) if loops.suit(matrix) else matrix.T.contiguous()


def _slower_elsewhere(matrix: Tensor) -> bool:
    """Whether torch would give its products to another library than oneDNN, which is slower.

    That library is MKL, which computes those in float32 and does so slowly on AMD's processors.
    """
    return matrix.dtype == torch.float32 and can_pack(matrix)


def linear_map(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Return the quickest function for ``x @ weight.T + bias``, without gradients.

    Args:
        weight: (out, in), as it is now.
        bias: (out,) or None.
    """
    if not can_pack(weight):
        return lambda x: torch.nn.functional.linear(x, weight, bias)
    packed = pack(weight)
    return lambda x: onednn_linear(x, packed, bias)
