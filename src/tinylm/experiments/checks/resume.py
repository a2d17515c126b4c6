"""Resuming: training that went on from its files ends as training that never stopped.

Six steps of the real loop with the run's own settings, dropout on and small batches; then steps
four to six once more by a new trainer that has nothing but the files of step three.
"""

from __future__ import annotations

import copy
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinylm.checkpoint import load_checkpoint, load_training_state
from tinylm.data.windows import Windows
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import (
    device_of,
    first_windows,
    largest_of_named,
    seeded,
    with_dropout,
    worst,
)
from tinylm.experiments.context import SilentListener
from tinylm.model.base import GenerativeModel
from tinylm.model.weights import load_weights
from tinylm.tasks.language_modelling import LanguageModelling
from tinylm.training.loop import Trainer

_STEPS = 6
_STOP = 3
_WINDOWS = 7  # so that the resumed part crosses from one epoch into the next
_LEAST_DROPOUT = 0.1
_PLACE = ("corpus", "optimizer", "order", "tokens", "best_loss", "best_step", "last_validated")


def run(subject: Subject) -> Finding:
    """Compare weights, optimizer state, random state and place in the data at the end."""
    given = subject.lm.model
    device = device_of(given)
    windows = first_windows(subject.train, subject.lm.model.config, _WINDOWS)
    folder = subject.folder / "resume"
    with seeded(subject.seed, device):
        model = with_dropout(given, max(_LEAST_DROPOUT, given.config.dropout))
        model.embedding.weight.requires_grad_(subject.config.vectors.trainable)
        blank = copy.deepcopy(model)
        whole = _trainer(subject, model, windows, folder / "whole")
        _train(whole)
        expected = _end(whole)
        kept = folder / "whole" / "checkpoints" / f"step-{_STOP}"
        resumed = _resumed(subject, blank, windows, kept, folder / "resumed")
        _train(resumed)
        actual = _end(resumed)
    elsewhere = float(_place(resumed) != _place(whole))
    return Finding(
        compared=f"weights, optimizer and random state after {_STEPS} steps, against stopping "
        f"after step {_STOP} and resuming from its files ({whole.config.optimizer}, dropout "
        f"{model.config.dropout:g}, {whole.precision})",
        cases=sum(tensor.numel() for tensor in expected.values()),
        unit="numbers",
        difference=worst([largest_of_named(actual, expected), elsewhere]),
        bound=0.0,
        note="the position in the data differs" if elsewhere else "",
    )


def _trainer(subject: Subject, model: GenerativeModel, windows: Windows, folder: Path) -> Trainer:
    """Return a trainer with the run's settings but for what makes it short."""
    given = subject.config.training
    settings = replace(
        given,
        batch_size=2,
        accumulation_steps=min(2, given.accumulation_steps),
        max_steps=_STEPS,
        warmup_steps=min(2, given.warmup_steps),  # else the weights would hardly move
        checkpoint_interval=_STOP,
        validation_interval=_STEPS,
        keep_checkpoints=2,
        early_stop_patience=0,
        device=str(device_of(model)),
        compile=False,
    )
    task = LanguageModelling(subject.lm.tokenizer, windows, windows, settings.batch_size)
    return Trainer(model, task, settings, folder / "checkpoints", SilentListener())


def _train(trainer: Trainer) -> None:
    """Train to the end; a signal that arrives meanwhile acts afterwards as it usually does."""
    outcome = trainer.run()
    if outcome.reason.startswith("SIG"):
        signal.raise_signal(signal.Signals[outcome.reason])


def _resumed(
    subject: Subject, model: GenerativeModel, windows: Windows, kept: Path, folder: Path
) -> Trainer:
    """Return a trainer that knows a checkpoint's files; the model's weights are wiped first."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    trainer = _trainer(subject, model, windows, folder)
    load_weights(model, load_checkpoint(kept).weights, kept)
    trainer.restore(load_training_state(kept))
    return trainer


def _end(trainer: Trainer) -> dict[str, Tensor]:
    """Return weights, optimizer state and random state, by name."""
    weights = {name: tensor.detach().clone() for name, tensor in trainer.model.state_dict().items()}
    return weights | {name: tensor.clone() for name, tensor in trainer.state().tensors.items()}


def _place(trainer: Trainer) -> dict[str, Any]:
    """Return where training is, without what depends on the clock."""
    state = trainer.state()
    return {"step": state.step} | {name: state.numbers[name] for name in _PLACE}
