"""The sigmoid-weighted linear unit, also called Swish."""

from __future__ import annotations

import torch
from torch import Tensor

from tinylm.model.activations import Activation


def silu(x: Tensor) -> Tensor:
    """``x * sigmoid(x)`` (Elfwing, Uchibe and Doya 2018, equation 5)."""
    return x * torch.sigmoid(x)


SILU = Activation(
    function=silu,
    label="SiLU",
    formula='"SiLU"({x})',
    source="[[elfwing2018]]",
    kept_arrays=3,
    kept_in_one_pass=2,
)
