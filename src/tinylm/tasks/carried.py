"""Language modelling with a state that is carried from window to window.

Truncated backpropagation through time (Williams and Peng 1990; Mikolov et al. 2010): the text is
cut into as many streams as a batch has rows, which are read side by side, window by window. A
window begins with the state that the one before it in its stream left, as a number: the gradient
ends where the window begins. What a model can learn from is thus as long as its stream, and what a
step costs is a window.

Every epoch begins with empty states, and validation reads each window with an empty state, as of
every other model, so that losses are comparable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinylm.config import ModelConfig, TrainingConfig
from tinylm.data.orders import StreamOrder, WholeOrder
from tinylm.data.windows import IGNORED, Batch
from tinylm.errors import ConfigError
from tinylm.model.base import CarriedState, GenerativeModel
from tinylm.registry import MODELS
from tinylm.tasks.language_modelling import LanguageModelling

Kind = TypeVar("Kind", bound=LanguageModelling)


class CarriedLanguageModelling(LanguageModelling):
    """Every token is predicted from all those before it in its stream."""

    _stream: int | None = None
    _state: CarriedState | None = None
    _restored: Mapping[str, Tensor] | None = None

    def order(self, batch_size: int, seed: int) -> WholeOrder:
        """Return the windows of the streams, side by side."""
        order = StreamOrder(len(self), batch_size)
        self._stream = order.length
        return order

    def batch(self, indices: npt.NDArray[np.int64]) -> Batch:
        """Return windows by their indices; the first of a stream begins all of them anew.

        A process that takes some of the streams never reads the first of the text.
        """
        follows = len(indices) > 0 and indices[0] % (self._stream or len(self)) != 0
        return replace(super().batch(indices), follows=bool(follows))

    def loss(self, model: GenerativeModel, batch: Batch) -> tuple[Tensor, int]:
        """Return the summed loss of the tokens that follow; see ``Task.loss``."""
        state = self._before(model, batch)
        x = model.residual(batch.ids, real=batch.real, cache=state)
        self._state = state
        return model.summed_loss(x, batch.labels, IGNORED), batch.num_targets

    def _before(self, model: GenerativeModel, batch: Batch) -> CarriedState:
        rows = len(batch.ids)
        state = self._state if batch.follows else None
        if batch.follows and self._restored is not None:
            kept = {name: part.to(batch.ids.device) for name, part in self._restored.items()}
            state = model.carried_state(len(next(iter(kept.values()))))
            if state is not None:
                state.restore(kept)
        self._restored = None
        if state is None:
            state = model.carried_state(rows)
            assert state is not None  # ``refuse_carrying`` saw to it
        if rows < state.batch_size:  # the last streams are over
            state.reorder(torch.arange(rows))
        state.detach()
        return state

    def tensors(self) -> dict[str, Tensor]:
        """Return the states in which the streams are."""
        if self._state is None:
            return dict(self._restored or {})
        self._state.detach()
        return self._state.tensors()

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from states that ``tensors`` returned."""
        super().restore(state, tensors)
        self._state, self._restored = None, dict(tensors) or None


def carried(kind: type[Kind]) -> type[Kind]:
    """Return a kind of language modelling that carries states, and is otherwise as it is.

    Args:
        kind: whose loss is that of language modelling: the next token alone.
    """
    if kind is LanguageModelling:
        return cast("type[Kind]", CarriedLanguageModelling)
    return cast("type[Kind]", type(f"Carried{kind.__name__}", (kind, CarriedLanguageModelling), {}))


def refuse_carrying(model: ModelConfig, training: TrainingConfig, pairs: bool = False) -> None:
    """Refuse to carry a state where there is none, or where it cannot be.

    Args:
        model: that would carry it.
        training: its settings.
        pairs: whether it is trained on pairs.

    Raises:
        ConfigError: naming the settings.
    """
    carrying = [
        kind
        for kind in MODELS
        if MODELS.load(kind).carried_state is not GenerativeModel.carried_state
    ]
    if model.kind not in carrying:
        raise ConfigError(
            f"training.carry_state = true has no effect with model.kind = {model.kind}, which has "
            f"no state of constant size: leave it out, or give model.kind={' or '.join(carrying)}"
        )
    if pairs:
        raise ConfigError(
            "training.carry_state = true has no effect on pairs, each of which is read alone: "
            "leave it out"
        )
    if training.gradient_checkpointing:
        raise ConfigError(
            "training.carry_state = true and training.gradient_checkpointing = "
            f"{training.gradient_checkpointing}: a layer computed again would go on from its own "
            "end; turn one of them off"
        )
