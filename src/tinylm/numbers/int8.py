"""8-bit integers: a matrix as ``scale * integer``, with one scale for each of its rows.

A row's scale is a 127th of its largest absolute number, so that the integers lie between -127 and
127 and 0 stays 0 (symmetric quantization by rows; Jacob et al. 2018, section 2.1). The error of a
number is at most half of its row's scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 127
_LEAST = 1e-12  # a row of zeros has a scale too


def row_scales(weight: Tensor) -> Tensor:
    """Return what the integers of each row of a matrix, (out, in), are multiplied by.

    Returns:
        (out,), float64.
    """
    return weight.abs().amax(1).clamp(min=_LEAST).double() / LARGEST


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a matrix, (out, in), to integers.

    Returns:
        The integers, (out, in), int8, and the scale of each row, (out,), float32.
    """
    scale = row_scales(weight).float()
    return (weight / scale[:, None]).round().to(torch.int8), scale
