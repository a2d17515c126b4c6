"""Pruning of attention heads (Michel, Levy and Neubig 2019, sections 3 and 4).

The head of each layer goes that the loss needs least (``importance``), then importance is measured
anew: what one head did, another may have to do now. A layer keeps as many heads as the others.
"""

from __future__ import annotations

from torch import Tensor

from tinylm.compression.parts import importance_of, num_removed, remove_least
from tinylm.compression.pruner import Pruned, Pruner
from tinylm.compression.removal import keep_heads, refuse_changed, refuse_heads
from tinylm.config.pruning import HeadsConfig
from tinylm.model.base import GenerativeModel


class Heads(Pruner):
    """Removes heads, one of each layer after the other."""

    Settings = HeadsConfig
    removes = True
    label = "heads"
    noun = "removal of heads"
    explanation = (
        "*Heads* are removed by how much the loss needs them to first order, the absolute value of "
        "each text, then the mean [[michel2019]], one of each layer after the other."
    )

    @classmethod
    def refuse(cls, model: GenerativeModel, share: float | None, settings: HeadsConfig) -> None:
        """Refuse what cannot go (``Pruner.refuse``)."""
        refuse_changed(model)
        refuse_heads(model.config)
        num_removed(share, settings, model.config.num_heads, "heads")

    @classmethod
    def prune(
        cls, model: GenerativeModel, share: float | None, settings: HeadsConfig, ids: Tensor | None
    ) -> Pruned:
        """Remove heads (``Pruner.prune``).

        Details are the ``removed`` heads of each layer, in order, and the ``importance`` of each
        before, divided by the Euclidean norm of its layer's, as in the paper.
        """
        cls.refuse(model, share, settings)
        total = model.config.num_heads
        count = num_removed(share, settings, total, "heads")
        importance = importance_of(model, settings, total, ids, "attention.mixed")
        smaller, removed, first = remove_least(model, [1] * count, importance, keep_heads, total)
        normed = [(each / each.norm().clamp(min=1e-30)).tolist() for each in first]
        return Pruned(smaller, {"removed": removed, "importance": normed})
