"""A task of the kind that may come, in as few lines as it takes, and a run of it that is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tests.training.tiny import Recorder, tiny_model, tiny_tokenizer
from tinylm.checkpoint import load_checkpoint, load_training_state, newest
from tinylm.config import TrainingConfig
from tinylm.model.decoder import DecoderLM
from tinylm.model.weights import load_weights
from tinylm.training.loop import Trainer
from tinylm.training.task import Task

STEPS, KILLED_AFTER = 12, 8


@dataclass(frozen=True)
class Pairs:
    """Preferred texts and others, (pairs, seq) each."""

    better: Tensor
    worse: Tensor

    @property
    def num_targets(self) -> int:
        return len(self.better)

    @property
    def size(self) -> tuple[int, int]:
        return 2 * len(self.better), self.better.shape[1]

    def to(self, device: torch.device) -> Pairs:
        return Pairs(self.better.to(device), self.worse.to(device))


class Preference(Task[DecoderLM, Pairs]):
    """The preferred text of a pair shall be likelier: ``-log sigmoid`` of how much it is."""

    source = "toy pairs"
    longest = 6

    def __init__(self, pairs: int = 10) -> None:
        self.tokenizer = tiny_tokenizer()
        generator = torch.Generator().manual_seed(0)
        self.texts = torch.randint(4, 20, (2, pairs, 6), generator=generator)
        self.seen = 0

    def __len__(self) -> int:
        return self.texts.shape[1]

    def batch(self, indices: npt.NDArray[np.int64]) -> Pairs:
        self.seen += len(indices)
        return Pairs(*self.texts[:, torch.from_numpy(indices)])

    def loss(self, model: DecoderLM, batch: Pairs) -> tuple[Tensor, int]:
        ids = torch.cat([batch.better, batch.worse])
        chosen = model(ids[:, :-1]).log_softmax(-1).gather(-1, ids[:, 1:, None])
        better, worse = chosen.sum((1, 2)).chunk(2)
        return -torch.nn.functional.logsigmoid(better - worse).sum(), batch.num_targets

    @torch.no_grad()
    def validate(self, model: DecoderLM) -> float:
        loss, count = self.loss(model, Pairs(*self.texts))
        return loss.item() / count

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self.seen = state["seen"]


class Killing(Recorder):
    """Ends the process, as nothing can be done about, after a step that no checkpoint holds."""

    def on_step(self, step: int, loss: float, tokens_per_second: float) -> None:
        super().on_step(step, loss, tokens_per_second)
        if step == KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)


def trainer(folder: Path, listener: Recorder) -> Trainer:
    """A training of the toy task that goes on where a checkpoint of the folder stopped."""
    config = TrainingConfig(
        device="cpu",
        threads=1,
        batch_size=4,
        max_steps=STEPS,
        accumulation_steps=2,
        checkpoint_interval=3,
        validations=2,
        learning_rate=1e-2,
        keep_checkpoints=9,
    )
    torch.set_num_threads(1)
    made = Trainer(tiny_model(dropout=0.2), Preference(), config, folder / "checkpoints", listener)
    path = newest(folder / "checkpoints")
    if path is not None:
        load_weights(made.model, load_checkpoint(path).weights, path)
        made.restore(load_training_state(path))
    return made


if __name__ == "__main__":
    trainer(Path(sys.argv[1]), Killing()).run()
