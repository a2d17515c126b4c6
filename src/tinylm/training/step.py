"""One optimizer step: forward and backward over its micro-batches, clipping, update.

The loop and the experiments on training share it, so that these measure the step of the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Generic

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from tinylm.config import ModelConfig, TrainingConfig
from tinylm.fast import PLAIN, WHOLE, in_turn_with_copies, install
from tinylm.model.base import LayerRunner, Model
from tinylm.model.decoder import in_turn, layers_run_by
from tinylm.model.masks import mask_gradients, mask_weights
from tinylm.planning.flops import step_flops
from tinylm.planning.limits import forward_bytes, refuse_step
from tinylm.training.accumulation import accumulate_gradients
from tinylm.training.allocator import keep_freed_memory
from tinylm.training.optimizers import Make, build_optimizer, clip_gradients
from tinylm.training.precision import autocast, resolve_device
from tinylm.training.processes.group import ALONE, Processes, telling_lost
from tinylm.training.processes.parts import is_divided
from tinylm.training.recompute import recomputing
from tinylm.training.speed import refuse_compiling_of, resolve_speed
from tinylm.training.task import Examples, Trained


@dataclass(frozen=True)
class Gradients:
    """The result of the backward passes of a step."""

    loss: float
    """Sum over the targets, in nats."""
    num_targets: int
    norm: float
    """Of the whole gradient, before clipping."""


class TrainingStep(Generic[Trained]):
    """A model on its device, its optimizer, and how its gradients are computed."""

    def __init__(
        self,
        model: Trained,
        loss: Callable[[Trained, Any], tuple[Tensor, int]],
        config: TrainingConfig,
        total_steps: int | None = None,
        beside: nn.Module | None = None,
        held: Mapping[str, ModelConfig] = MappingProxyType({}),
        processes: Processes = ALONE,
    ) -> None:
        """Put the model on the device that the configuration names.

        Args:
            model: trained in place.
            loss: of the model and a batch (``Task.loss``).
            config: all settings.
            total_steps: of the run, from which follows whether compiling pays; empty: a few.
            beside: what is trained with it (``Task.beside``).
            held: other models that read every batch (``Task.held``).
            processes: that take the step together, each on batches of its own.

        Raises:
            ConfigError: if the device is not there, or settings contradict each other.
        """
        self.config = config
        self.device = resolve_device(config.device)
        flops = None if total_steps is None else total_steps * _step_flops(model, config)
        if not model.compiles:
            refuse_compiling_of(model, config)
            flops = None
        self.speed = resolve_speed(config, self.device, flops)
        self.precision = self.speed.precision
        if self.speed.keep_freed_memory:
            keep_freed_memory()
        self.model = model.to(self.device)
        self.trained: nn.Module = self.model
        """All that the optimizer moves."""
        if beside is not None:
            self.trained = nn.ModuleDict({"model": model, "beside": beside.to(self.device)})
        processes.agree(self.trained.state_dict().values())
        divides = config.shard if processes.size > 1 else "nothing"
        self.divides_layers = divides == "parameters"
        """Whether a layer is run by all processes at once, so that each must run as many."""
        dividing: Callable[[Make], Make] | None = None
        if divides != "nothing":
            from tinylm.training.processes.sharding import (
                refuse_sharding,
                shard_layers,
                zero_optimizer,
            )

            refuse_sharding(model, config)
            if self.divides_layers:
                self.speed = replace(
                    self.speed, quick=False, compile=False, optimizer=config.optimizer
                )
                shard_layers(self.model, self.device, processes.size)
            else:
                dividing = zero_optimizer
        self.install()
        self._loss = loss
        self._held = held
        self._run_layers = self._layer_runner()
        self._fitting: set[tuple[int, int]] = set()  # sizes of batches
        self.optimizer = build_optimizer(
            self.trained, replace(config, optimizer=self.speed.optimizer), dividing
        )
        self.processes = processes
        whole = [each for each in self.trained.parameters() if not is_divided(each)]
        self._reduction = processes.reduction(whole)

    def _layer_runner(self) -> LayerRunner | None:
        """Return how the layers are run; None: in turn."""
        if self.speed.compile:
            return torch.compile(in_turn)
        segment = self.config.gradient_checkpointing
        if not segment:
            return None
        return recomputing(segment, in_turn_with_copies if self.speed.quick else in_turn)

    def install(self) -> None:
        """Give the model's parts the form in which they are trained; ``fast.remove`` takes it."""
        install(self.model, WHOLE if self.speed.quick else PLAIN)

    def loss(self, batch: Examples) -> tuple[Tensor, int]:
        """Return the summed loss of a batch, a scalar in float32 at least, and its targets."""
        with (
            autocast(self.precision, self.device),
            layers_run_by(self.model, self._run_layers),
        ):
            return self._loss(self.model, batch)

    def backward(self, batches: Sequence[Examples], idle: Sequence[Examples] = ()) -> Gradients:
        """Leave in ``.grad`` the clipped gradient of the mean loss over all targets.

        Of all processes that take the step together, each of which may give other batches, or none.

        Args:
            batches: of this process.
            idle: batches that are run and do not count, where a process has none of its own while
                others run divided layers.

        Raises:
            ConfigError: if a batch needs more memory than there is.
        """
        self._refuse_too_large(batches)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        self._reduction.begin(sum(batch.num_targets > 0 for batch in [*batches, *idle]))
        with telling_lost():
            loss, num_targets = accumulate_gradients(
                self.loss,
                [batch.to(self.device) for batch in batches],
                self.processes.sum,
                [batch.to(self.device) for batch in idle],
            )
        self._reduction.finish()
        mask_gradients(self.model)  # before their norm is measured
        norm = clip_gradients(self.trained.parameters(), self.config.gradient_clip)
        return Gradients(self.processes.sum(loss), num_targets, norm)

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
        training = replace(own, precision=self.precision)
        trained = sum(p.numel() for p in self.trained.parameters() if p.requires_grad)
        read = replace(self.model.config, context_length=size)
        held = {
            name: forward_bytes(config, batch_size, size) for name, config in self._held.items()
        }
        refuse_step(read, training, trained, memory, beside=held)

    def _refuse_too_large(self, batches: Sequence[Examples]) -> None:
        for size in {batch.size for batch in batches}:
            if size is not None and size not in self._fitting:
                self.refuse(*size)
                self._fitting.add(size)

    def update(self) -> None:
        """Move the weights along the gradient; those that a mask holds stay 0."""
        with telling_lost():
            self.optimizer.step()
        # torch's fused optimizers do not count the change, and what is made of the weights and
        # kept, such as a copy for decoding, would stay as it is.
        increment_version(self.trained.parameters())
        mask_weights(self.model)


def _step_flops(model: Model, config: TrainingConfig) -> int:
    """Return the FLOPs of an optimizer step on full windows."""
    windows = config.batch_size * config.accumulation_steps
    return windows * step_flops(model.config, model.config.context_length)
