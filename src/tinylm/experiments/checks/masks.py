"""Masks in training: pruned weights are 0 after steps of the run's optimizer, and have no gradient.

Where the run's model has no masks, those of its smallest weights are held after some steps, when
the optimizer has moments that would move them.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from tinylm.compression.magnitude import Magnitude
from tinylm.config.pruning import MagnitudeConfig
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import (
    dequantized,
    device_of,
    first_windows,
    seeded,
    with_dropout,
)
from tinylm.fast import remove
from tinylm.model.base import GenerativeModel
from tinylm.model.masks import masks_of
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.step import TrainingStep

_STEPS = 2  # before the mask, and after it
_WINDOWS = 2.5  # of two micro-batches, the last one padded
_SHARE = 0.5


def run(subject: Subject) -> Finding:
    """Compare masked weights, and their gradients, after training steps, with 0."""
    given = subject.lm.model
    windows = first_windows(subject.train, given.config, _WINDOWS)
    batches = [windows.batch([0, 1]), windows.batch([len(windows) - 1])]
    with seeded(subject.seed, device_of(given)):
        own = bool(masks_of(given))
        model = with_dropout(given, given.config.dropout) if own else dequantized(given)
        model.train()
        settings = replace(subject.config.training, device=str(device_of(given)), compile=False)
        step = TrainingStep(model, next_token_loss, settings)

        def train() -> None:
            for _ in range(_STEPS):
                step.backward(batches)
                step.update()

        if not own:
            train()
            _mask(model)
        before = {path: model.get_parameter(f"{path}.weight").clone() for path in masks_of(model)}
        train()
    remove(model)
    largest, moved, cases = 0.0, False, 0
    for path, kept in masks_of(model).items():
        weight = model.get_parameter(f"{path}.weight")
        assert weight.grad is not None
        for tensor in (weight.detach(), weight.grad):
            masked = tensor[~kept]
            largest = max(largest, float(masked.abs().max()) if masked.numel() else 0.0)
            cases += masked.numel()
        moved |= not torch.equal(weight, before[path])
    return Finding(
        compared=f"weights under {'masks of the run' if own else 'new masks'} "
        f"and their gradients, after {_STEPS} steps of {step.config.optimizer} with accumulation "
        f"in {step.precision}, against 0",
        cases=cases,
        unit="numbers",
        difference=largest if moved else float("inf"),
        bound=0.0,
        note="" if moved else "nothing was trained",
    )


def _mask(model: GenerativeModel) -> None:
    """Hold half of each plain matrix that is trained at 0."""
    maps = [
        path
        for path, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Embedding)) and module.weight.requires_grad
    ]
    settings = MagnitudeConfig(targets=tuple(f".{path}" for path in maps))
    Magnitude.prune(model, _SHARE, settings, None)
