"""Checkpoints that all processes of a training write at once, each a part of the tensors.

The first process makes the folder under an unfinished name and gives it its own when all have
written, so that a process killed meanwhile leaves the checkpoint before. With ``at_once`` false the
tensors are copied and written while training goes on; the next checkpoint waits for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from tinylm.checkpoint import TrainingState
from tinylm.checkpoint.shards import FOLDER, MODEL, TRAINING, write_shards
from tinylm.checkpoint.writing import begin_checkpoint, finish_checkpoint, weights_of
from tinylm.model.base import Model
from tinylm.tokenizers.base import Tokenizer
from tinylm.training.keeping import Folder
from tinylm.training.processes.group import Processes, telling_lost

_SECONDS_BETWEEN_LOOKS = 0.01


class SharedKeeper:
    """Writes checkpoints by all processes of the default group."""

    def __init__(self, folder: Folder, processes: Processes, at_once: bool) -> None:
        """Keep checkpoints in a folder that all processes reach.

        Args:
            folder: of the checkpoints.
            processes: that write.
            at_once: whether training waits until a checkpoint is written.
        """
        self.folder = folder
        self._processes = processes
        self._at_once = at_once
        # Its own, so that what is sent while training goes on does not mix with the training's.
        self._group = dist.new_group(backend="gloo")
        self._ended: Callable[[], bool] | None = None
        self._complete: Callable[[], None] = _nothing

    def save(self, model: Model, tokenizer: Tokenizer, state: TrainingState, best: bool) -> None:
        """Begin to write a checkpoint, and end it if it is to be at once; see ``Keeper``."""
        self.finish()
        target, temporary = self.folder.path / f"step-{state.step}", Path()
        if self._processes.rank == 0:
            temporary = begin_checkpoint(target, model, tokenizer, state)
            (temporary / FOLDER).mkdir()
            self._complete = lambda: self._finish_folder(temporary, target, best)
        tensors = {f"{MODEL}{name}": tensor for name, tensor in weights_of(model).items()}
        tensors |= {f"{TRAINING}{name}": tensor for name, tensor in state.tensors.items()}
        place = self._said(str(temporary))
        with telling_lost():
            self._ended = write_shards(Path(place) / FOLDER, tensors, self._group, self._at_once)
        if self._at_once:
            self.finish()

    def _said(self, text: str) -> str:
        """Return what the first process says."""
        mine = text.encode() if self._processes.rank == 0 else b""
        sent = torch.frombuffer(bytearray(mine), dtype=torch.uint8) if mine else _NO_BYTES
        return self._processes.joined(sent).numpy().tobytes().decode()

    def _finish_folder(self, temporary: Path, target: Path, best: bool) -> None:
        finish_checkpoint(temporary, target)
        self.folder.add(target, best)

    def poll(self) -> None:
        """Give a checkpoint its name that has been written meanwhile."""
        if self._ended is not None and self._ended():
            self._ended = None
            self._complete()
            self._complete = _nothing

    def finish(self) -> None:
        """Return when the last checkpoint has its name."""
        while self._ended is not None:
            self.poll()
            time.sleep(0 if self._ended is None else _SECONDS_BETWEEN_LOOKS)
        self._processes.sum(0)  # the others, too, go on when it is there


_NO_BYTES = torch.empty(0, dtype=torch.uint8)


def _nothing() -> None:
    """Do nothing."""
