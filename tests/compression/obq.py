"""Optimal Brain Quantization as it is derived, a row at a time: what GPTQ must come to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def codes_of(value: float, scale: float, zero: float, lowest: int, highest: int) -> int:
    """Round one number, half to even."""
    return int(min(max(np.round(value / scale) + zero, lowest), highest))


def obq_row(
    weights: Array,
    hessian: Array,
    scales: Array,
    zeros: Array,
    bounds: tuple[int, int],
    order: list[int],
    kept: list[bool],
) -> list[int]:
    """Return the codes of a row: after each column the inverse is made anew by elimination.

    Frantar and Alistarh 2022, equations 2 to 4, in a fixed order.

    Args:
        weights: (in,).
        hessian: damped, (in, in).
        scales: of each column, (in,).
        zeros: of each column, (in,).
        bounds: lowest and highest code.
        order: of the columns.
        kept: False where the weight is to become 0.
    """
    weights, inverse = weights.copy(), np.linalg.inv(hessian)
    codes = [0] * len(weights)
    for q in order:
        codes[q] = codes_of(weights[q] if kept[q] else 0.0, scales[q], zeros[q], *bounds)
        read = scales[q] * (codes[q] - zeros[q])
        weights -= (weights[q] - read) / inverse[q, q] * inverse[:, q]
        inverse = inverse - np.outer(inverse[:, q], inverse[q]) / inverse[q, q]
    return codes
