"""Where checkpoints go while a model is trained: written, counted, the best one pointed at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tinylm.checkpoint import TrainingState, point, prune
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.model.base import Model
from tinylm.tokenizers.base import Tokenizer


class Keeper(Protocol):
    """Keeps the states of a training."""

    def save(self, model: Model, tokenizer: Tokenizer, state: TrainingState, best: bool) -> None:
        """Keep a state, as the best one so far or not.

        Raises:
            CheckpointError: if a checkpoint, this one or one before, cannot be written.
        """

    def poll(self) -> None:
        """See to a checkpoint that is being written, if it has been meanwhile."""

    def finish(self) -> None:
        """Return when nothing is being written any more."""


class Folder:
    """The folder of checkpoints, to which one process writes."""

    def __init__(self, path: Path, keep: int, kept: Callable[[Path], None]) -> None:
        """Keep checkpoints there.

        Args:
            path: the run's ``checkpoints``.
            keep: how many of the latest are kept beside the best one.
            kept: called with every checkpoint when it is there.
        """
        self.path = path
        self._keep = keep
        self._kept = kept

    def add(self, checkpoint: Path, best: bool) -> None:
        """Count a checkpoint that has been written, and delete those that are too many."""
        prune(self.path, self._keep)
        self._kept(checkpoint)
        if best:
            point(self.path, "best", checkpoint)


class OwnKeeper:
    """Writes checkpoints by this process alone, before training goes on."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def save(self, model: Model, tokenizer: Tokenizer, state: TrainingState, best: bool) -> None:
        """Write a checkpoint; see ``Keeper``."""
        self.folder.add(save_checkpoint(self.folder.path, model, tokenizer, state), best)

    def poll(self) -> None:
        """Nothing is being written."""

    def finish(self) -> None:
        """Nothing is being written."""
