"""Pruning by gradient: weights go whose removal changes the loss least, to first order.

Setting w to 0 changes the loss by ``-w dL/dw`` and terms of higher order, so the score is
``|w dL/dw|``, with the gradient of the mean loss over calibration tokens (Molchanov et al. 2019,
equation 8, before its square). Scores of all maps are in the same unit, nats a token, and can be
compared over the whole model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tinylm.compression.importance import batch_losses
from tinylm.compression.masking import Masking
from tinylm.compression.pruner import calibration_ids
from tinylm.config.pruning import TaylorConfig
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating


class Taylor(Masking):
    """The score of a weight is its product with its gradient, without its sign."""

    Settings = TaylorConfig
    label = "gradient (Taylor)"
    noun = "pruning by gradient"
    explanation = (
        "*Gradient* pruning [[molchanov2019]] takes the weights whose removal changes the loss "
        "least, to first order: the smallest products of weight and gradient."
    )

    @staticmethod
    def scores(
        model: GenerativeModel, modules: Mapping[str, Any], settings: Any, ids: Tensor | None
    ) -> dict[str, Tensor]:
        """Return ``|w dL/dw|`` (``Masking.scores``)."""
        texts = calibration_ids(ids)
        weights = [module.weight for module in modules.values()]
        required = [weight.requires_grad for weight in weights]
        totals = [torch.zeros_like(weight) for weight in weights]
        try:
            for weight in weights:
                weight.requires_grad_()
            with evaluating(model), torch.enable_grad():
                for loss in batch_losses(model, texts):
                    slopes = torch.autograd.grad(loss / texts[:, 1:].numel(), weights)
                    for total, slope in zip(totals, slopes, strict=True):
                        total += slope
        finally:
            for weight, before in zip(weights, required, strict=True):
                weight.requires_grad_(before)
        return {
            path: (weight.detach() * total).abs()
            for path, weight, total in zip(modules, weights, totals, strict=True)
        }
