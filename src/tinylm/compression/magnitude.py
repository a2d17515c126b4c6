"""Pruning by magnitude: the smallest weights go (Han et al. 2015).

Needs no text. Magnitudes are compared within a map, or over all maps together (``scope``), where
those whose weights are small lose more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tinylm.compression.masking import Masking
from tinylm.config.pruning import MagnitudeConfig
from tinylm.model.base import GenerativeModel


class Magnitude(Masking):
    """The score of a weight is its absolute value."""

    Settings = MagnitudeConfig
    label = "magnitude"
    noun = "pruning by magnitude"
    explanation = "*Magnitude* [[han2015]] takes the weights of the smallest absolute value."

    @staticmethod
    def scores(
        model: GenerativeModel, modules: Mapping[str, Any], settings: Any, ids: Tensor | None
    ) -> dict[str, Tensor]:
        """Return ``|w|`` (``Masking.scores``)."""
        return {path: module.weight.detach().abs() for path, module in modules.items()}
