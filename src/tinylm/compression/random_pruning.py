"""Random pruning: what any choice must beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tinylm.compression.masking import Masking
from tinylm.config.pruning import RandomConfig
from tinylm.model.base import GenerativeModel


class Random(Masking):
    """The score of a weight is drawn by lot."""

    Settings = RandomConfig
    label = "random"
    noun = "random pruning"
    explanation = "*Random* pruning draws the weights by lot: what any choice must beat."

    @staticmethod
    def scores(
        model: GenerativeModel, modules: Mapping[str, Any], settings: RandomConfig, ids: Any
    ) -> dict[str, Tensor]:
        """Return uniform numbers, the same ones for the same seed (``Masking.scores``)."""
        generator = torch.Generator().manual_seed(settings.seed)
        return {
            path: torch.rand(module.weight.shape, generator=generator).to(module.weight.device)
            for path, module in modules.items()
        }
