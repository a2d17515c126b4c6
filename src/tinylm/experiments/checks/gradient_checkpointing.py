"""Gradient checkpointing: recomputed activations give the same gradients, bit for bit.

Dropout is on. A segment that is computed again must draw the numbers it drew the first time, cast
as it did then, and leave the random state as if nothing had been computed twice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinylm.data.windows import IGNORED, Batch
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import (
    device_of,
    first_windows,
    gradients,
    largest_of_named,
    seeded,
    with_dropout,
    worst,
)
from tinylm.model.base import GenerativeModel, LayerRunner
from tinylm.model.decoder import in_turn, layers_run_by
from tinylm.model.loss import token_losses
from tinylm.training.precision import autocast, resolve_precision
from tinylm.training.recompute import recomputing

_WINDOWS = 2.5  # the last one is padded
_LEAST_DROPOUT = 0.1


def run(subject: Subject) -> Finding:
    """Compare gradients with and without recomputation, for segments of several lengths."""
    given = subject.lm.model
    device = device_of(given)
    windows = first_windows(subject.train, given.config, _WINDOWS)
    batch = windows.batch(range(len(windows))).to(device)
    precision = resolve_precision(subject.config.training.precision, device)
    with seeded(subject.seed, device):
        dropout = max(_LEAST_DROPOUT, given.config.dropout)
        model = with_dropout(given, dropout).train()
        model.embedding.weight.requires_grad_(subject.config.vectors.trainable)
    layers = given.config.num_layers
    segments = sorted({1, min(2, layers), layers})
    kept = _after_backward(model, batch, in_turn, precision, subject.seed)
    differences = [
        largest_of_named(
            _after_backward(model, batch, recomputing(segment), precision, subject.seed), kept
        )
        for segment in segments
    ]
    return Finding(
        compared=f"loss, gradients and random state, segments of {_listed(segments)} recomputed, "
        f"against keeping all activations (dropout {dropout:g}, {precision}, the same seed)",
        cases=len(segments) * sum(p.numel() for p in model.parameters() if p.requires_grad),
        unit="gradient components",
        difference=worst(differences),
        bound=0.0,
    )


def _after_backward(
    model: GenerativeModel, batch: Batch, run_layers: LayerRunner, precision: str, seed: int
) -> dict[str, Tensor]:
    """Return gradients, loss and random state after one forward and backward pass."""
    device = device_of(model)
    model.zero_grad()
    with seeded(seed, device):
        with autocast(precision, device), layers_run_by(model, run_layers):
            logits = model.unembed(model.read(batch))
        loss = token_losses(logits, batch.labels, IGNORED).mean()
        for place in {torch.device("cpu"), device}:
            torch.rand((), device=place)  # something else draws before the backward pass
        torch.autograd.backward(loss)
        state = {"loss": loss.detach(), "random state": torch.get_rng_state(), **gradients(model)}
        if device.type == "cuda":
            state["random state of the device"] = torch.cuda.get_rng_state(device)
    return state


def _listed(segments: list[int]) -> str:
    words = " and ".join(", ".join(map(str, segments)).rsplit(", ", 1))
    return f"{words} layer{'' if segments == [1] else 's'}"
