"""Wanda: weights go whose product with their input is small (Sun et al. 2024, section 3).

``S_ij = |W_ij| * ||X_j||``: the norm of input j over all calibration tokens. Scores are compared
within a row, where they are parts of one output; so every output keeps as many weights. One pass
over some texts, and no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tinylm.compression.calibration import Columns, observe
from tinylm.compression.masking import Masking
from tinylm.compression.pruner import calibration_ids
from tinylm.config.pruning import WandaConfig
from tinylm.model.base import GenerativeModel


class Wanda(Masking):
    """The score of a weight is its absolute value times its input's norm."""

    Settings = WandaConfig
    kinds = (nn.Linear,)
    label = "Wanda"
    noun = "Wanda"
    explanation = (
        "*Wanda* [[sun2024]] takes, of each output, the weights whose absolute value times the "
        "norm of their input is smallest."
    )

    @staticmethod
    def scores(
        model: GenerativeModel, modules: Mapping[str, Any], settings: Any, ids: Tensor | None
    ) -> dict[str, Tensor]:
        """Return ``|w|`` times the norm of its input, in float64 (``Masking.scores``)."""
        inputs = {path: Columns() for path in modules}
        observe(model, calibration_ids(ids), {path: [each] for path, each in inputs.items()})
        return {
            path: module.weight.detach().double().abs() * inputs[path].norm
            for path, module in modules.items()
        }
