"""The Gaussian error linear unit, exact and in the tanh form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tinylm.model.activations import Activation


def gelu(x: Tensor) -> Tensor:
    """``x * Phi(x)`` with the exact normal distribution (Hendrycks and Gimpel 2016)."""
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of GELU that GPT-2 uses (Hendrycks and Gimpel 2016, section 2)."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


GELU = Activation(
    function=gelu,
    label="GELU",
    formula='"GELU"({x})',
    source="[[hendrycks2016]]",
    kept_arrays=4,
    kept_in_one_pass=2,
)
GELU_TANH = Activation(
    function=gelu_tanh,
    label="GELU (tanh)",
    formula='"GELU"({x})',
    source="(in its tanh form) [[hendrycks2016]]",
    kept_arrays=5,
    kept_in_one_pass=2,
)
