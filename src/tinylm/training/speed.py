"""What makes a training step quick, and what ``training.speed: auto`` chooses of it.

Every choice gives the numbers of the plain step to rounding, but for the number format, which has a
setting of its own (``training.precision``). All follow from the configuration, the length of the
run and the processor, never from a measurement, so that a run that is resumed goes on as it began.

- Freed memory is kept for the next step (``allocator``): a sixth of a small model's step.
- Adam, AdamW and SGD update by torch's fused kernels: half of the time of ours.
- The model's parts have their quick forms (``fast``): matrix products in float32 are oneDNN's, up
  to 1.5 times as fast as MKL's on an AMD processor; the loss is computed in chunks; dropout, norms,
  attention's softmax, ReLU and the loss run as compiled loops, a seventh of a small model's step.
- ``torch.compile`` where the run is long enough to make up for its start-up, about a minute: on a
  GPU, and on a CPU with matrix instructions (AMX). On other processors a compiled step was no
  quicker.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import torch

from tinylm.config import TrainingConfig
from tinylm.errors import ConfigError
from tinylm.model.base import Model
from tinylm.registry import OPTIMIZERS
from tinylm.training.precision import cpu_flags, resolve_precision
from tinylm.value_types import Precision

_EARNED_BACK = {"cuda": 1e16, "cpu": 1e14}
"""FLOPs of a whole run from which compiling pays: a third of a step saved, at 60 TFLOP/s on a GPU
and 0.6 on a CPU with AMX, is a minute after so many."""


@dataclass(frozen=True)
class Speed:
    """How a training step is run."""

    precision: Precision
    compile: bool
    optimizer: str
    """Name in the registry OPTIMIZERS."""
    keep_freed_memory: bool
    quick: bool
    """Whether the model's parts have their quick forms (``fast``)."""


def resolve_speed(
    config: TrainingConfig, device: torch.device, run_flops: float | None = None
) -> Speed:
    """Return how a step is run.

    Args:
        config: its ``speed``, and the settings that choose one thing by themselves.
        device: where.
        run_flops: of the whole run, forward and backward; empty: not known, and nothing is
            compiled unless the configuration says so.

    Raises:
        ConfigError: if compiling is asked for and cannot be.
    """
    quick = config.speed == "auto"
    on_cpu = device.type == "cpu"
    if config.compile is True:
        _refuse_compiling(config, device)
    pays = run_flops is not None and compiling_pays(config, device, run_flops)
    return Speed(
        precision=resolve_precision(config.precision, device),
        compile=config.compile is True or (config.compile == "auto" and quick and pays),
        optimizer=OPTIMIZERS.load(config.optimizer).fused if quick else config.optimizer,
        keep_freed_memory=config.keep_freed_memory and quick and on_cpu,
        quick=quick,
    )


def compiling_pays(config: TrainingConfig, device: torch.device, run_flops: float) -> bool:
    """Whether ``torch.compile`` saves a run of so many FLOPs more time than it takes."""
    if config.gradient_checkpointing or not has_compiler(device):
        return False
    if device.type == "cpu" and "amx_bf16" not in cpu_flags():
        return False
    return run_flops >= _EARNED_BACK[device.type]


def has_compiler(device: torch.device) -> bool:
    """Whether what ``torch.compile`` needs is there: a C++ compiler on a CPU."""
    return device.type != "cpu" or any(shutil.which(name) for name in _compilers())


def _compilers() -> list[str]:
    return [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "c++"]


def refuse_compiling_of(model: Model, config: TrainingConfig) -> None:
    """Refuse to compile a model whose layers that cannot make quicker.

    Raises:
        ConfigError: if ``training.compile`` asks for it.
    """
    if config.compile is True:
        raise ConfigError(
            f"training.compile = true has no effect with model.kind = {model.config.kind}, which "
            "goes from token to token: leave it out"
        )


def _refuse_compiling(config: TrainingConfig, device: torch.device) -> None:
    if segment := config.gradient_checkpointing:
        raise ConfigError(
            f"training.compile = true and training.gradient_checkpointing = {segment}: a "
            "compiled model decides itself what it computes again; turn one of them off"
        )
    if not has_compiler(device):
        raise ConfigError(
            f"training.compile = true needs a C++ compiler on a CPU, and "
            f"{' or '.join(_compilers())} is not on the PATH: install one or set "
            "training.compile=false"
        )
