"""The state of a trainer: its numbers, as they are read back, and its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NotRequired

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import TypedDict

from tinylm.errors import TinylmError
from tinylm.training.optimizers import optimizer_tensors, restore_optimizer
from tinylm.training.processes.group import Processes
from tinylm.training.step import TrainingStep

_Count = Annotated[int, Field(ge=0)]


class _Order(TypedDict):
    epoch: _Count
    next_window: _Count
    permutation: NotRequired[str]


class _Pending(TypedDict):
    loss: float
    targets: _Count
    norm: float
    steps: _Count
    seconds: float
    measures: NotRequired[dict[str, float]]


class StateNumbers(TypedDict):
    """What ``Trainer.state`` keeps beside tensors."""

    corpus: str
    optimizer: str
    order: _Order
    tokens: _Count
    seconds: Annotated[float, Field(ge=0)]
    session_seconds: NotRequired[Annotated[float, Field(ge=0)]]
    best_loss: float | None
    best_step: int
    worse_validations: _Count
    last_validated: int
    pending: _Pending
    task: NotRequired[dict[str, Any]]


_OPTIMIZER, _BESIDE, _TASK = "optimizer/", "beside/", "task/"


def state_tensors(
    step: TrainingStep[Any], beside: nn.Module | None, own: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return what the steps to come depend on beside the model's weights, by name.

    The optimizer's state, what is trained beside the model (``Task.beside``), what the task itself
    keeps (``Task.tensors``), random generators.
    """
    tensors = _named(_OPTIMIZER, optimizer_tensors(step.optimizer, step.trained))
    if beside is not None:
        tensors |= _named(_BESIDE, beside.state_dict())
    tensors |= _named(_TASK, own)
    generators = {"cpu": torch.get_rng_state()}
    if step.device.type == "cuda":
        generators["cuda"] = torch.cuda.get_rng_state(step.device)
    for device, mine in generators.items():
        for rank, generator in enumerate(step.processes.joined(mine[None])):
            tensors[_generator(device, rank)] = generator
    return tensors


def _generator(device: str, rank: int) -> str:
    """Return under which name the generator of a process is kept."""
    return f"rng/{device}/{rank}" if rank else f"rng/{device}"


def draw_apart(processes: Processes, *numbers: int) -> None:
    """Let every process but the first draw other random numbers, so that no two drop the same.

    Args:
        processes: this one and the others.
        numbers: from which what is drawn follows, such as a seed.
    """
    if processes.rank:
        seed = np.random.SeedSequence([*numbers, processes.rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(seed[0]))


def restore_tensors(
    step: TrainingStep[Any],
    beside: nn.Module | None,
    tensors: Mapping[str, Tensor],
    refuse: Callable[[str], TinylmError],
) -> None:
    """Put back what ``state_tensors`` returned.

    A process that was not there when the state was saved draws as ``draw_apart`` has it draw.

    Args:
        step: of a model with the weights that were saved with it.
        beside: what is trained beside the model.
        tensors: by name.
        refuse: makes the error of a state that cannot be used.
    """
    restore_optimizer(step.optimizer, step.trained, _below(_OPTIMIZER, tensors))
    if beside is not None:
        try:
            beside.load_state_dict(_below(_BESIDE, tensors))
        except RuntimeError as error:
            raise refuse("lacks what is trained beside the model") from error
    cpu, cuda = (_generator(device, step.processes.rank) for device in ("cpu", "cuda"))
    if cpu not in tensors and _generator("cpu", 0) in tensors:
        return
    try:
        torch.set_rng_state(tensors[cpu])
        if step.device.type == "cuda" and cuda in tensors:
            torch.cuda.set_rng_state(tensors[cuda], step.device)
    except (KeyError, RuntimeError, TypeError) as error:
        raise refuse("has no random number generator's state") from error


def task_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what ``Task.tensors`` returned, of what ``state_tensors`` did."""
    return _below(_TASK, tensors)


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
