"""The rectified linear unit."""

from __future__ import annotations

import torch
from torch import Tensor

from tinylm.model.activations import Activation


def relu(x: Tensor) -> Tensor:
    """``max(x, 0)`` (Vaswani et al. 2017, equation 2)."""
    return torch.relu(x)


RELU = Activation(
    function=relu,
    label="ReLU",
    formula="max(0, {x})",
    source="[[vaswani2017]]",
    kept_arrays=1,
)
