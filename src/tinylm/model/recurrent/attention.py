"""Attention of a decoder's state to the states of an encoder: two scores, one context.

    additive        e_j = v^T tanh(W s + U h_j)     Bahdanau, Cho and Bengio 2015, appendix A.1.2
    multiplicative  e_j = s^T W h_j                 Luong, Pham and Manning 2015, "general"

The weights are the softmax of the scores over the places j of the source, and the context is the
mean of the encoder's states with these weights. What depends on h_j alone, U h_j or W h_j, is the
key of a place: it is computed once for a source, however many tokens are written.

Tensors stand with the texts first: ``query`` (batch, target, hidden), ``keys`` and ``memory``
(batch, source, hidden), scores and weights (batch, target, source).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.model.drawing import draw_maps


def additive_scores(query: Tensor, keys: Tensor, vector: Tensor) -> Tensor:
    """Return ``v^T tanh(query + key)`` of every pair, (batch, target, source).

    Args:
        query: W s.
        keys: U h.
        vector: v, (hidden,).
    """
    return (query[:, :, None] + keys[:, None]).tanh() @ vector


def multiplicative_scores(query: Tensor, keys: Tensor) -> Tensor:
    """Return ``query^T key`` of every pair, (batch, target, source)."""
    return query @ keys.mT


def weights_of(scores: Tensor, blocked: Tensor | None) -> Tensor:
    """Return the softmax of scores over the source, the last dimension.

    Args:
        scores: (..., source).
        blocked: True where there is no token, which gets weight 0; None: nowhere. A text without
            any has equal weights everywhere, so that nothing becomes NaN.
    """
    if blocked is not None:
        scores = scores.masked_fill(blocked, torch.finfo(scores.dtype).min)
    return scores.softmax(-1)


def context_vectors(weights: Tensor, states: Tensor) -> Tensor:
    """Return the means of the encoder's states, (..., target, hidden).

    Args:
        weights: (..., target, source), that sum to 1.
        states: (..., source, hidden).
    """
    return weights @ states


class Attention(nn.Module):
    """The maps behind the scores; a context and a state become the output by ``combine``."""

    def __init__(self, config: ModelConfig, index: int, additive: bool) -> None:
        """Build the maps.

        Args:
            config: of the model.
            index: of the layer.
            additive: whether the score is the additive one, which has a map of the query too and a
                vector.
        """
        super().__init__()
        self.name = f"layers.{index}.attention"
        size = config.hidden_size
        self.key = nn.Linear(size, size, bias=config.bias and additive)
        if additive:
            self.query = nn.Linear(size, size, bias=False)
            self.vector = nn.Parameter(torch.empty(size))

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw the maps by Glorot and Bengio 2010, and v so that scores are of order 1."""
        draw_maps(self)
        if "vector" in self._parameters:
            nn.init.normal_(self.vector, std=len(self.vector) ** -0.5)
