"""Pruning of whole layers: the one goes without which the loss is lowest, then the next.

The loss of the calibration texts is measured with each layer in turn handing on its input, which is
exact and takes a pass for each layer that is left.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinylm.compression.importance import mean_loss
from tinylm.compression.parts import drawn, num_removed
from tinylm.compression.pruner import Pruned, Pruner, calibration_ids
from tinylm.compression.removal import keep_layers, refuse_changed
from tinylm.config.pruning import LayersConfig
from tinylm.model.base import GenerativeModel


class Layers(Pruner):
    """Removes layers, one after the other."""

    Settings = LayersConfig
    removes = True
    label = "layers"
    noun = "removal of layers"
    explanation = (
        "*Layers* are removed one after the other, each time the one without which the loss is "
        "lowest."
    )

    @classmethod
    def refuse(cls, model: GenerativeModel, share: float | None, settings: LayersConfig) -> None:
        """Refuse what cannot go (``Pruner.refuse``)."""
        refuse_changed(model)
        num_removed(share, settings, model.config.num_layers, "layers")

    @classmethod
    def prune(
        cls, model: GenerativeModel, share: float | None, settings: LayersConfig, ids: Tensor | None
    ) -> Pruned:
        """Remove layers (``Pruner.prune``).

        Details are the ``removed`` layers, in order, and the ``losses`` without each of those that
        were left, in nats a token, round by round.
        """
        cls.refuse(model, share, settings)
        total = model.config.num_layers
        count = num_removed(share, settings, total, "layers")
        by_lot = settings.importance == "random"
        lots = drawn(settings, 1, total)[0]
        texts = None if by_lot else calibration_ids(ids)
        left, removed, losses = list(range(total)), [], []
        for _ in range(count):
            if texts is None:
                values = lots[left]
            else:
                without = [keep_layers(model, _but(len(left), i)) for i in range(len(left))]
                values = torch.tensor([mean_loss(each, texts) for each in without])
                losses.append(values.tolist())
            lowest = int(values.argmin())
            model = keep_layers(model, _but(len(left), lowest))
            removed.append(left.pop(lowest))
        return Pruned(model, {"removed": removed, **({"losses": losses} if losses else {})})


def _but(count: int, left_out: int) -> list[int]:
    return [i for i in range(count) if i != left_out]
