"""One optimizer step: forward and backward over its micro-batches, clipping, update.

What the loop and the experiments on training share, so that they measure what trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tinylm.config import TrainingConfig
from tinylm.data.windows import IGNORED, Batch
from tinylm.fast import PLAIN, WHOLE, in_turn_with_copies, install
from tinylm.model.decoder import DecoderLM, in_turn, layers_run_by
from tinylm.planning.flops import step_flops
from tinylm.planning.limits import refuse_step
from tinylm.training.accumulation import accumulate_gradients
from tinylm.training.allocator import keep_freed_memory
from tinylm.training.optimizers import build_optimizer, clip_gradients
from tinylm.training.precision import autocast, resolve_device
from tinylm.training.recompute import recomputing
from tinylm.training.speed import resolve_speed


@dataclass(frozen=True)
class Gradients:
    """What the backward passes of a step found."""

    loss: float
    """Sum over the target tokens, in nats."""
    num_targets: int
    norm: float
    """Of the whole gradient, before clipping."""


class TrainingStep:
    """A model on its device, its optimizer, and how its gradients are computed."""

    def __init__(
        self, model: DecoderLM, config: TrainingConfig, total_steps: int | None = None
    ) -> None:
        """Put the model on the device that the configuration names.

        Args:
            model: trained in place.
            config: all settings.
            total_steps: of the run, from which follows whether compiling pays; empty: a few.

        Raises:
            ConfigError: if the device is not there, or settings contradict each other.
        """
        self.config = config
        self.device = resolve_device(config.device)
        flops = None if total_steps is None else total_steps * _step_flops(model, config)
        self.speed = resolve_speed(config, self.device, flops)
        self.precision = self.speed.precision
        if self.speed.keep_freed_memory:
            keep_freed_memory()
        self.model = model.to(self.device)
        self.install()
        # The output projection is left out: with the loss it is computed in chunks.
        self._residual: Callable[..., Tensor] = (
            torch.compile(model.residual) if self.speed.compile else model.residual
        )
        segment = config.gradient_checkpointing
        run_segment = in_turn_with_copies if self.speed.quick else in_turn
        self._run_layers = recomputing(segment, run_segment) if segment else None
        self._fitting: set[tuple[int, ...]] = set()  # shapes of batches
        self.optimizer = build_optimizer(model, replace(config, optimizer=self.speed.optimizer))

    def install(self) -> None:
        """Give the model's parts the form in which they are trained; ``fast.remove`` takes it."""
        install(self.model, WHOLE if self.speed.quick else PLAIN)

    def summed_loss(self, batch: Batch) -> Tensor:
        """Return the sum of a batch's token losses, a scalar in float32 at least."""
        with (
            autocast(self.precision, self.device),
            layers_run_by(self.model, self._run_layers),
        ):
            x = self._residual(batch.ids, real=batch.real)
            return self.model.summed_loss(x, batch.labels, IGNORED)

    def backward(self, batches: Sequence[Batch]) -> Gradients:
        """Leave in ``.grad`` the clipped gradient of the mean loss over all target tokens.

        Raises:
            ConfigError: if a batch needs more memory than there is.
        """
        self._refuse_too_large(batches)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss, num_targets = accumulate_gradients(
            self.summed_loss, [batch.to(self.device) for batch in batches]
        )
        norm = clip_gradients(self.model.parameters(), self.config.gradient_clip)
        return Gradients(loss, num_targets, norm)

    def refuse(self, batch_size: int, seq: int) -> None:
        """Refuse a batch of so many windows of so many tokens that cannot fit.

        Raises:
            ConfigError: with the sum and the memory.
        """
        memory = None
        if self.device.type == "cuda":
            memory = torch.cuda.get_device_properties(self.device).total_memory
        size = max(2, seq)
        own = replace(self.config, batch_size=batch_size)
        training = replace(own, precision=self.precision)  # type: ignore[arg-type]
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        refuse_step(replace(self.model.config, context_length=size), training, trained, memory)

    def _refuse_too_large(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            shape = tuple(batch.ids.shape)
            # What is fed in may be features of texts that were read before.
            if shape not in self._fitting and not batch.ids.is_floating_point():
                self.refuse(*shape)
                self._fitting.add(shape)

    def update(self) -> None:
        """Move the weights along the gradient."""
        self.optimizer.step()


def _step_flops(model: DecoderLM, config: TrainingConfig) -> int:
    """Return the FLOPs of an optimizer step on full windows."""
    windows = config.batch_size * config.accumulation_steps
    return windows * step_flops(model.config, model.config.context_length)
