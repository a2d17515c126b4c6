"""Tensors and optimizers of which a process has a part (``sharding``), beside whole ones.

torch's own parts for that take half of a second to be imported, which a training in one process
does not pay: where they were never imported nothing is divided.
"""

from __future__ import annotations

import sys
from typing import Any, cast

import torch
from torch import Tensor

_DIVIDED, _OPTIMIZER = "torch.distributed.tensor", "torch.distributed.optim"


def is_divided(tensor: Tensor) -> bool:
    """Whether processes have a part each of a tensor."""
    module: Any = sys.modules.get(_DIVIDED)
    return module is not None and isinstance(tensor, module.DTensor)


def own_part(tensor: Tensor) -> Tensor:
    """Return what this process has of a tensor, in the same memory."""
    return cast(Any, tensor).to_local() if is_divided(tensor) else tensor


def gathered(tensor: Tensor) -> Tensor:
    """Return a tensor put together of all parts; all processes must ask for it."""
    return cast(Any, tensor).full_tensor() if is_divided(tensor) else tensor


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return a whole tensor divided as another one is, or as it is where that is whole."""
    if not is_divided(other) or not tensor.dim():
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(other, DTensor)
    return distribute_tensor(tensor, other.device_mesh, other.placements)


def local_part(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer of this process's parameters, which has their states."""
    module: Any = sys.modules.get(_OPTIMIZER)
    if module is not None and isinstance(optimizer, module.ZeroRedundancyOptimizer):
        part: torch.optim.Optimizer = cast(Any, optimizer).optim
        return part
    return optimizer
