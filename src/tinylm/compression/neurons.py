"""Pruning of feed-forward neurons by how much the loss needs them (``importance``).

As many go in each layer, in some rounds, between which importance is measured anew.
"""

from __future__ import annotations

from torch import Tensor

from tinylm.compression.parts import importance_of, in_rounds, num_removed, remove_least
from tinylm.compression.pruner import Pruned, Pruner
from tinylm.compression.removal import keep_neurons, refuse_changed
from tinylm.config.pruning import NeuronsConfig
from tinylm.model.base import GenerativeModel


class Neurons(Pruner):
    """Removes feed-forward neurons."""

    Settings = NeuronsConfig
    removes = True
    label = "neurons"
    noun = "removal of neurons"
    explanation = (
        "*Neurons* of the feed-forward parts are removed by the same measure as heads, in {rounds} "
        "rounds [[molchanov2019]]."
    )

    @classmethod
    def refuse(cls, model: GenerativeModel, share: float | None, settings: NeuronsConfig) -> None:
        """Refuse what cannot go (``Pruner.refuse``)."""
        refuse_changed(model)
        num_removed(share, settings, model.config.resolved_ffn_size, "neurons")

    @classmethod
    def prune(
        cls,
        model: GenerativeModel,
        share: float | None,
        settings: NeuronsConfig,
        ids: Tensor | None,
    ) -> Pruned:
        """Remove neurons (``Pruner.prune``); details are the ``removed`` ones of each layer."""
        cls.refuse(model, share, settings)
        total = model.config.resolved_ffn_size
        count = num_removed(share, settings, total, "neurons")
        importance = importance_of(model, settings, total, ids, "feed_forward.inner")
        counts = in_rounds(count, settings.rounds)
        smaller, removed, _ = remove_least(model, counts, importance, keep_neurons, total)
        return Pruned(smaller, {"removed": removed})
