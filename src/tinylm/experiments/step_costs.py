"""What one optimizer step of a configuration costs; shared by the experiments on training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from tinylm.config import RunConfig
from tinylm.data.windows import Batch, Windows
from tinylm.evaluation.memory import peak_bytes, resting_bytes, saved_bytes, tensor_bytes
from tinylm.model.base import GenerativeModel, build
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.allocator import give_back_freed_memory
from tinylm.training.step import TrainingStep


@dataclass(frozen=True)
class StepMemory:
    """Bytes of an optimizer step once the optimizer has its state."""

    peak_bytes: int
    """Most bytes alive at once, weights and optimizer state included."""
    state_bytes: int
    """Weights, gradients and optimizer state."""
    saved_bytes: int
    """What the forward pass of the first micro-batch keeps for the backward pass."""


def prepare_step(
    config: RunConfig, batches: Sequence[Batch]
) -> tuple[TrainingStep[GenerativeModel], Callable[[], object]]:
    """Build a model with random weights and return it with a function that takes one step.

    ``torch.compile`` is left out: it would hide what is kept.
    """
    torch.manual_seed(config.training.seed)
    step = TrainingStep(
        build(config.model), next_token_loss, replace(config.training, compile=False)
    )

    def take() -> None:
        step.backward(batches)
        step.update()

    return step, take


def step_memory(config: RunConfig, batches: Sequence[Batch]) -> StepMemory:
    """Measure the memory of an optimizer step over micro-batches."""
    give_back_freed_memory()
    step, take = prepare_step(config, batches)
    take()  # the optimizer makes its state at its first step
    step.optimizer.zero_grad(set_to_none=True)
    weights = list(step.model.parameters())
    resting = resting_bytes(step.model, step.optimizer)
    batch = batches[0].to(step.device)
    saved = saved_bytes(lambda: step.loss(batch)[0], weights)
    peak = peak_bytes(take, step.device)
    gradients = tensor_bytes(weight for weight in weights if weight.requires_grad)
    return StepMemory(resting + peak, resting + gradients, saved)


def first_batches(windows: Windows, batch_size: int, count: int) -> list[Batch]:
    """Return batches of the first windows, beginning again where there are too few."""
    return [
        windows.batch([i % len(windows) for i in range(n * batch_size, (n + 1) * batch_size)])
        for n in range(count)
    ]
