"""What processes divide among them in place of each holding all of it, by torch's own means.

``training.shard = optimizer`` divides the optimizer's states (ZeRO stage 1; Rajbhandari et al.
2020): torch's ``ZeroRedundancyOptimizer`` gives every parameter to one process, which moves it and
sends it to the others. ``parameters`` divides the layers' parameters and gradients as well (stage
3): torch's ``fully_shard`` gathers a layer's parameters before it is run, forward and backward, and
adds up gradients to the part of each process. What is beside the layers, embedding and output map,
stays whole. ``training.zero`` has the same written out to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer

from tinylm.config import TrainingConfig
from tinylm.errors import ConfigError
from tinylm.model.base import Model

Make = Callable[..., torch.optim.Optimizer]


def refuse_sharding(model: Model, config: TrainingConfig) -> None:
    """Refuse to divide parameters where something else must have them whole.

    Raises:
        ConfigError: naming the settings.
    """
    if config.shard != "parameters":
        return
    for name, value, off in (
        ("gradient_checkpointing", config.gradient_checkpointing, 0),
        ("snapshots", config.snapshots, 0),
        ("compile", config.compile is True, False),
    ):
        if value != off:
            raise ConfigError(
                f"training.shard = parameters and training.{name} = {str(value).lower()}: layers "
                f"are not whole between steps; set training.{name}={str(off).lower()}, or "
                "training.shard=optimizer"
            )
    if not hasattr(model, "layers"):
        raise ConfigError(
            f"training.shard = parameters divides layers, and model.kind = {model.config.kind} has "
            "none by that name: set training.shard=optimizer"
        )


def shard_layers(model: nn.Module, device: torch.device, size: int) -> None:
    """Divide every layer's parameters; gradients are added up, not averaged."""
    mesh = init_device_mesh(device.type, (size,))
    layers = model.layers
    assert isinstance(layers, nn.ModuleList)
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        assert isinstance(layer, FSDPModule)
        layer.set_gradient_divide_factor(1.0)
        layer.set_force_sum_reduction_for_comms(True)  # gloo multiplies nothing on its way


def zero_optimizer(make: Make) -> Make:
    """Return how an optimizer is made whose states are divided."""

    def made(groups: Iterable[dict[str, Any]], **settings: Any) -> torch.optim.Optimizer:
        return ZeroRedundancyOptimizer(groups, make, **settings)  # type: ignore[arg-type]

    return made
