"""Rounding to the nearest (RTN): each weight takes the code that is nearest to it.

Needs no text. Its error in a weight is at most half a scale, whatever the weight is multiplied by:
what the other methods are measured against.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tinylm.compression.quantizer import Quantizer
from tinylm.compression.quantizing import integer_forms, put, targets
from tinylm.config.quantization import RoundingConfig
from tinylm.model.base import GenerativeModel


class Rounding(Quantizer):
    """Whole numbers, each the nearest."""

    Settings = RoundingConfig
    label = "RTN"
    noun = "rounding to the nearest"
    explanation = (
        "*Rounding to the nearest* (RTN) [[jacob2018]] gives every weight the nearest of the codes "
        "of {bits} bits."
    )

    @staticmethod
    def quantize(
        model: GenerativeModel, settings: RoundingConfig, ids: Tensor | None
    ) -> Mapping[str, Any]:
        """Round the targets (``Quantizer.quantize``)."""
        modules = targets(model, settings.targets)
        put(model, integer_forms(model, modules, settings))
        return {}
