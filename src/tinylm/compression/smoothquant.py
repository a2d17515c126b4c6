"""SmoothQuant: what is hard to round moves from the inputs to the weight (Xiao et al. 2023).

A few numbers of a map's inputs are far larger than the others, in every token, and 8 bits spread
over them are coarse for all. ``x W^T = (x / s) (W diag(s))^T``: divided by
``s_j = max|x_j|^a / max|W_j|^(1-a)`` the inputs are easy to round, and the weight, with a scale for
each row, can bear it. Before anything is rounded the outputs have not changed.

The division costs nothing where a norm makes the inputs, for this map alone: its weight and bias
are divided. In a pre-norm layer that is so. In a post-norm one, the norm's output is the residual
stream too: there the map divides its inputs itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tinylm.compression.calibrated import LinearInput, Rounded, quantize_maps
from tinylm.compression.quantizer import Quantizer
from tinylm.config.quantization import SmoothQuantConfig
from tinylm.model.base import GenerativeModel
from tinylm.numbers.quantized import QuantizedWeight

_LEAST = 1e-5


class SmoothQuant(Quantizer):
    """Weights to the nearest, their inputs rounded too, after both were made equally hard."""

    Settings = SmoothQuantConfig
    label = "SmoothQuant"
    noun = "SmoothQuant"
    explanation = (
        "*SmoothQuant* [[xiao2023]] divides each input by a number and multiplies its column of "
        "the weight by it, so that inputs can be rounded to 8 bits too."
    )

    @staticmethod
    def quantize(
        model: GenerativeModel, settings: SmoothQuantConfig, ids: Tensor | None
    ) -> Mapping[str, Any]:
        """Scale and round the targets (``Quantizer.quantize``)."""

        def rounded(each: LinearInput) -> Rounded:
            if each.tied:
                return Rounded(QuantizedWeight(each.weight, each.form))
            largest = each.columns.largest_absolute
            scale = smoothing_scale(largest, each.weight, settings.strength)
            return Rounded(QuantizedWeight(each.weight * scale, each.form), scale)

        return quantize_maps(model, settings, ids, rounded)


def smoothing_scale(largest: Tensor, weight: Tensor, strength: float = 0.5) -> Tensor:
    """Return what the inputs are divided by and the weight's columns multiplied by.

    Args:
        largest: absolute value of each number of the inputs, (in,), as calibration saw it.
        weight: (out, in).
        strength: the exponent *a*: 0 leaves the difficulty with the inputs, 1 gives all of it to
            the weight.

    Returns:
        (in,), float32; 1 for an input or a column that is always 0.
    """
    columns = weight.detach().abs().amax(0).double()
    inputs = largest.double()
    scale = inputs.clamp(min=_LEAST) ** strength / columns.clamp(min=_LEAST) ** (1 - strength)
    scale = torch.where((inputs == 0) | (columns == 0), 1.0, scale)
    return scale.clamp(min=_LEAST).float()
