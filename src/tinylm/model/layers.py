"""LayerNorm and the position-wise feed-forward part."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.registry import ACTIVATIONS


class LayerNorm(nn.Module):
    """Layer normalisation (Ba, Kiros and Hinton 2016, equation 4).

    ``weight * (x - mean) / sqrt(variance + eps) + bias`` over the last dimension, with the biased
    variance and eps inside the root.
    """

    def __init__(self, size: int, eps: float, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x``, (..., size)."""
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        normalised = centred * torch.rsqrt(variance + self.eps)
        scaled = normalised * self.weight
        return scaled if self.bias is None else scaled + self.bias


def last_norm(config: ModelConfig) -> nn.Module:
    """Return what stands behind the last layer of a stack: a norm where layers begin with one."""
    if config.norm_placement == "pre":
        return LayerNorm(config.hidden_size, config.norm_eps, config.bias)
    return nn.Identity()


class FeedForward(nn.Module):
    """``contract(activation(expand(x)))`` at every position (Vaswani et al. 2017, 3.3)."""

    def __init__(self, config: ModelConfig, name: str) -> None:
        super().__init__()
        self.name = name
        self.expand = nn.Linear(config.hidden_size, config.resolved_ffn_size, bias=config.bias)
        self.contract = nn.Linear(config.resolved_ffn_size, config.hidden_size, bias=config.bias)
        self.activation = ACTIVATIONS.load(config.activation).function

    def forward(self, x: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Map ``x``, (batch, seq, hidden), to the same shape."""
        inner = hooks(f"{self.name}.inner", self.activation(self.expand(x)))  # (batch, seq, ffn)
        return hooks(f"{self.name}.output", self.contract(inner))
