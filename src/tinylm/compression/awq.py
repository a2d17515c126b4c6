"""AWQ: inputs that are large keep their weights' precision (Lin et al. 2024).

``x W^T = (x / s) (W diag(s))^T``: multiplying a column of the weight by ``s > 1`` and dividing its
input by as much changes nothing, until the weight is rounded. The column then fills more of its
group's range, and its error, divided by s, gets smaller at the expense of the others. Columns with
large inputs are worth it: ``s = mean|x|^a``, and *a*, between 0 and 1, is searched.

What is searched for is the smallest error of the outputs, ``|X (W' - W)^T|^2``, which the Gram
matrix of the inputs gives exactly, with no input stored. *a* = 0 is rounding to the nearest, so
that on the calibration texts a map's outputs are never worse for the search.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinylm.compression.calibration import Columns, Gram
from tinylm.numbers.integers import IntegerFormat

STEPS = 20
"""Exponents that are tried: 0, 1/20, ... 19/20, as in the authors' code."""


def awq_scale(
    weight: Tensor, gram: Gram, columns: Columns, form: IntegerFormat, steps: int = STEPS
) -> tuple[Tensor, float]:
    """Return what the columns of a weight are multiplied by before they are rounded.

    Args:
        weight: (out, in), left alone.
        gram: of the inputs.
        columns: of the inputs.
        form: the format that the weight is rounded to.
        steps: exponents that are tried.

    Returns:
        The scale, (in,), float32 and positive, and its exponent.

    Raises:
        ConfigError: if the format's groups do not divide a row.
    """
    weight = weight.detach()
    best, exponent, least = torch.ones(weight.shape[1], device=weight.device), 0.0, torch.inf
    for step in range(steps):
        scale = _scale(columns.mean_absolute, step / steps)
        rounded = form.rounded(weight * scale.to(weight.dtype)) / scale
        error = float(gram.error(rounded - weight).sum())
        if error < least:
            best, exponent, least = scale, step / steps, error
    return best, exponent


def _scale(mean_absolute: Tensor, exponent: float) -> Tensor:
    """Return ``mean|x|^a``, divided by the middle between its ends so that weights stay as large.

    An input that was always 0 says nothing of its column, which then is scaled as the least is.
    """
    seen = mean_absolute > 0
    if exponent == 0 or not seen.any():
        return torch.ones_like(mean_absolute).float()
    values = mean_absolute.clamp(min=float(mean_absolute[seen].amin())) ** exponent
    return (values / (values.amax() * values.amin()).sqrt()).clamp(1e-4, 1e4).float()
