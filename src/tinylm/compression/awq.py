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

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tinylm.compression.calibrated import LinearInput, Rounded, quantize_maps, rounded_within
from tinylm.compression.calibration import Columns, Gram
from tinylm.compression.clipping import clipped_constants
from tinylm.compression.quantizer import Quantizer
from tinylm.config.quantization import AwqConfig
from tinylm.model.base import GenerativeModel
from tinylm.numbers.integers import IntegerFormat

STEPS = 20
"""Exponents that are tried: 0, 1/20, ... 19/20, as in the authors' code."""


class AWQ(Quantizer):
    """Whole numbers, each the nearest, of columns that are scaled by their inputs."""

    Settings = AwqConfig
    label = "AWQ"
    noun = "AWQ"
    explanation = (
        "*AWQ* [[lin2024]] multiplies columns of the weight whose inputs are large, and divides "
        "the inputs, before it rounds to the nearest; how much is searched for the smallest error "
        "of the outputs."
    )

    @staticmethod
    def quantize(
        model: GenerativeModel, settings: AwqConfig, ids: Tensor | None
    ) -> Mapping[str, Any]:
        """Scale and round the targets (``Quantizer.quantize``).

        A map that is the embedding too is not scaled.
        """
        exponents: list[float] = []

        def rounded(each: LinearInput) -> Rounded:
            scale, exponent = None, 0.0
            if not each.tied:
                scale, exponent = awq_scale(each.weight, each.gram, each.columns, each.form)
            exponents.append(exponent)
            if not exponent:
                scale = None
            weight = each.weight if scale is None else each.weight * scale
            constants = each.form.fit(weight)
            if settings.clip:
                gram = each.gram.total
                seen = gram if scale is None else gram / torch.outer(scale, scale)
                constants = clipped_constants(weight, each.form, seen)
            return Rounded(rounded_within(weight, each.form, constants), scale)

        details = quantize_maps(model, settings, ids, rounded)
        paths = details["output_errors"]
        return {**details, "exponents": dict(zip(paths, exponents, strict=True))}


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
