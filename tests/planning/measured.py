"""What is planned of a model's training held to what is counted and measured of it.

For every kind of model: its tests say which configurations, and which windows planning counts.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tinylm.config import ModelConfig, TrainingConfig
from tinylm.data.windows import Batch
from tinylm.evaluation.memory import peak_bytes, resting_bytes, saved_bytes
from tinylm.fast import loops
from tinylm.model.base import build
from tinylm.planning.activations import activation_bytes
from tinylm.planning.flops import forward_flops, step_flops
from tinylm.planning.memory import step_peak
from tinylm.planning.parameters import parameter_counts
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.step import TrainingStep

NEAR = 0.15
"""Relative error up to which the estimated peak is right; it is documented as about a tenth."""


def step_of(
    config: ModelConfig, frozen: bool = False, **settings: Any
) -> tuple[TrainingStep, TrainingConfig]:
    training = TrainingConfig(device="cpu", keep_freed_memory=False, **settings)
    model = build(config)
    model.embedding.weight.requires_grad_(not frozen)
    return TrainingStep(model.train(), next_token_loss, training), training


def full_batch(config: ModelConfig, batch: int, seq: int) -> Batch:
    ids, labels = torch.randint(4, config.resolved_vocab_size, (2, batch, seq))
    return Batch(ids.clone(), labels.clone())  # storages of their own, as those of TokenWindows


def hold_parameters(config: ModelConfig) -> None:
    """Parameters are those of the built model."""
    model = build(config)
    counts = model.parameter_counts()
    assert parameter_counts(config) == counts
    assert counts["total"] == sum(p.numel() for p in model.parameters())


def hold_activations(
    config: ModelConfig,
    windows: Batch,
    precision: str,
    segment: int,
    frozen: bool,
    quick: bool,
) -> None:
    """Activations are those that autograd saves."""
    speed = "auto" if quick and loops.available() else "plain"
    frozen = frozen and not config.tie_embeddings
    step, _ = step_of(
        config, frozen, precision=precision, gradient_checkpointing=segment, speed=speed
    )
    measured = saved_bytes(lambda: step.loss(windows)[0], step.model.parameters())
    sizes = windows.ids.shape
    parts = activation_bytes(config, *sizes, precision, segment, frozen, speed == "auto")
    assert parts.pop("total") == sum(parts.values()) == measured


def hold_flops(config: ModelConfig, windows: Batch, frozen: bool) -> None:
    """FLOPs of a forward pass and of a step are those that torch counts."""
    frozen = frozen and not config.tie_embeddings
    batch, seq = windows.ids.shape
    model = build(config)
    model.embedding.weight.requires_grad_(not frozen)

    def counted(backward: bool) -> int:
        with FlopCounterMode(display=False) as counter:
            logits = model.unembed(model.read(windows))
            if backward:
                logits.sum().backward()
        return int(counter.get_total_flops())

    assert counted(False) == batch * forward_flops(config, seq).total
    assert counted(True) == batch * step_flops(config, seq, frozen)


def hold_peak(config: ModelConfig, windows: Batch, **settings: Any) -> None:
    """The estimated peak of a step is near the measured one, and its lasting part is as it is."""
    step, training = step_of(config, batch_size=len(windows.ids), **settings)
    batches = [windows] * training.accumulation_steps

    def take() -> None:
        step.backward(batches)
        step.update()

    take()  # the optimizer makes its state at its first step
    step.optimizer.zero_grad(set_to_none=True)
    resting = resting_bytes(step.model, step.optimizer)
    estimated = step_peak(config, training)
    assert estimated.total == pytest.approx(resting + peak_bytes(take), rel=NEAR)
    assert estimated.weights + estimated.moments == pytest.approx(resting, abs=1000)
