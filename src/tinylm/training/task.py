"""What a model is trained on: the interface between an objective and the loop, which knows none.

A task makes batches from the order that the loop draws, gives the loss of a batch, measures the
model on texts that are held out, and says what must be kept with a checkpoint. Loop, optimizer
step, accumulation, checkpoints and resuming are then the same for every task (``tinylm.tasks``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.data.orders import ShuffledOrder, WholeOrder
from tinylm.model.base import Model
from tinylm.tokenizers.base import Tokenizer
from tinylm.training.processes.group import ALONE, Processes


class Examples(Protocol):
    """A batch: what one forward pass is computed of."""

    @property
    def num_targets(self) -> int:
        """What the summed loss is divided by: how many tokens, labels or pairs count in it."""
        ...

    @property
    def size(self) -> tuple[int, int] | None:
        """Texts, and tokens of the longest, that the model reads in one pass; None: it reads none.

        Refused before it is computed where it cannot fit.
        """
        ...

    def to(self, device: torch.device) -> Any:
        """Return the batch on a device."""
        ...


Trained = TypeVar("Trained", bound=Model)
Batches = TypeVar("Batches", bound=Examples)


class Task(ABC, Generic[Trained, Batches]):
    """An objective, its examples, and how well a model does at it."""

    tokenizer: Tokenizer
    """Kept with every checkpoint."""
    source: str
    """Fingerprint of the examples: a state that was trained on others is refused."""
    longest: int | None = None
    """Tokens of the longest text that a batch may hold; None: not known before."""
    beside: nn.Module | None = None
    """What is trained beside the model: kept with the state of training, and no part of the model.
    None: nothing."""
    held: Mapping[str, ModelConfig] = MappingProxyType({})
    """Models that read every batch beside the one that is trained, such as a teacher, by what they
    are called: their memory counts."""
    processes: Processes = ALONE
    """That train together: validation may be shared out among them, and all must get its result."""
    in_nats: bool = True
    """Whether a loss is a negative log-likelihood, so that its exponential is a perplexity."""

    def order(self, batch_size: int, seed: int) -> WholeOrder:
        """Return the order in which the examples are trained on; shuffled, but for a reason."""
        return ShuffledOrder(len(self), batch_size, seed)

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of examples."""

    @abstractmethod
    def batch(self, indices: npt.NDArray[np.int64]) -> Batches:
        """Return the examples with these indices."""

    def prepare(self, model: Trained, batch: Batches) -> Batches:
        """Return what is trained on in place of a batch: such as texts that the model makes itself.

        Called once for every batch of a step, in their order, before any loss of the step.
        """
        return batch

    @abstractmethod
    def loss(self, model: Trained, batch: Batches) -> tuple[Tensor, int]:
        """Return the summed loss of a batch, a scalar with a graph, and ``batch.num_targets``."""

    def after_step(self, model: Trained, step: int) -> None:
        """Change the model after an optimizer step, before it is measured or saved.

        What is changed must be kept with a checkpoint, and follow from the model, the step and what
        the task keeps.

        Args:
            model: changed in place.
            step: how many are taken, from 1.
        """

    def settled(self, step: int) -> bool:
        """Whether the model after a step is of the form that is wanted in the end.

        Only then can it be the best one, and does a validation count for an early stop.
        """
        return True

    @abstractmethod
    def validate(self, model: Trained) -> float:
        """Return the mean loss on what is held out; the model is in eval mode."""

    def measures(self) -> Mapping[str, float]:
        """Return what the last batches were measured by beside their loss, by a name in words.

        Shown while training, and logged as means over steps. The names are always the same.
        """
        return {}

    def held_out_measures(self) -> Mapping[str, float]:
        """Return what the last ``validate`` measured beside the loss, by a name in words."""
        return {}

    def held_out_texts(self) -> Mapping[str, Sequence[float]]:
        """Return what the last ``validate`` measured of each text, kept in metrics.jsonl alone."""
        return {}

    def stopped(self) -> str | None:
        """Return why training must not go on, a line for the user, or None: it may.

        Asked before every step; what decides it must be kept in ``state``.
        """
        return None

    def training_loss(self, model: Trained) -> float | None:
        """Return the mean loss on a fixed part of the examples, or None: it is not measured."""
        return None

    def state(self) -> dict[str, Any]:
        """Return what the task needs to resume, as JSON values."""
        return {}

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what the task needs to resume, as tensors, by name."""
        return {}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Resume from what ``state`` and ``tensors`` returned."""
