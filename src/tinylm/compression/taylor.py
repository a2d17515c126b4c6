"""Pruning by gradient: weights go whose removal changes the loss least, to first order.

Setting w to 0 changes the loss of a text x by ``-w dL(x)/dw`` and terms of higher order. The score
is the mean over texts of its absolute value (Molchanov et al. 2019, equation 8, before its square):
the gradient of the mean loss is next to nothing in a trained model, whatever w does for each text.
Scores of all maps are in the same unit, nats a token, and can be compared over the whole model.
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
    """The score of a weight is its product with its gradient, without its sign, over texts."""

    Settings = TaylorConfig
    label = "gradient (Taylor)"
    noun = "pruning by gradient"
    explanation = (
        "*Gradient* pruning [[molchanov2019]] takes the weights whose removal changes the loss "
        "of each text least, to first order: the smallest products of weight and gradient."
    )

    @staticmethod
    def scores(
        model: GenerativeModel, modules: Mapping[str, Any], settings: Any, ids: Tensor | None
    ) -> dict[str, Tensor]:
        """Return the mean of ``|w dL(x)/dw|`` over texts x (``Masking.scores``)."""
        texts = calibration_ids(ids)
        weights = [module.weight for module in modules.values()]
        required = [weight.requires_grad for weight in weights]
        totals = [torch.zeros_like(weight) for weight in weights]
        try:
            for weight in weights:
                weight.requires_grad_()
            with evaluating(model), torch.enable_grad():
                for text in texts:
                    (loss,) = batch_losses(model, text[None])
                    slopes = torch.autograd.grad(loss / texts[:, 1:].numel(), weights)
                    for total, slope in zip(totals, slopes, strict=True):
                        total += slope.abs()
        finally:
            for weight, before in zip(weights, required, strict=True):
                weight.requires_grad_(before)
        return {
            path: weight.detach().abs() * total
            for path, weight, total in zip(modules, weights, totals, strict=True)
        }
