"""Dropout, LayerNorm, the feed-forward part and the whole layer, quick.

The loops compute several operations in one pass: dropout, residual sum and norm together, ReLU with
the product before it. In mixed precision a norm's result is made twice, in float32 for the residual
stream and in bfloat16 for the product that takes it; that copy (``low``) goes from part to part
as an argument, and only where no hook may change what it is a copy of.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tinylm.fast import loops
from tinylm.fast.attention import FastAttention
from tinylm.fast.autograd import apply
from tinylm.fast.dropout import FastDropout
from tinylm.fast.linear import product, watched
from tinylm.model.decoder import DecoderLayer
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.layers import FeedForward, LayerNorm
from tinylm.model.reading import Reading


class FastLayerNorm(LayerNorm):
    """LayerNorm by a loop, or with its gradient in closed form: half of the time of autograd's."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x``, (..., size)."""
        if x.dtype == self.weight.dtype == torch.float32 and loops.suit(x, self.weight):
            return loops.norm.norm(x, self.weight, self.bias, self.eps)
        if not torch.is_grad_enabled():
            return super().forward(x)
        out: Tensor = apply(_LayerNorm, x, self.weight, self.bias, self.eps)
        return out


class _LayerNorm(torch.autograd.Function):
    """With n the normalised row, s the scale, and g the gradient from above times the weight, the
    gradient of x is ``s (g - mean(g) - n mean(g n))``. It keeps n and s.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)
        normalised = centred * scale
        ctx.save_for_backward(normalised, scale, weight)
        if bias is None:
            return normalised * weight
        return torch.addcmul(bias, normalised, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        normalised, scale, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        before, size = tuple(range(gradient.dim() - 1)), gradient.shape[-1]
        product = gradient * normalised
        grad_x = None
        if wants_x:
            row = weight.to(product.dtype) / size
            slope = (gradient @ row)[..., None]  # mean(g), (..., 1)
            along = (product @ row)[..., None]  # mean(g n)
            grad_x = torch.addcmul(-slope, gradient, weight)
            grad_x = grad_x.addcmul_(normalised, along, value=-1).mul_(scale).to(normalised.dtype)
        return (
            grad_x,
            product.sum(before) if wants_weight else None,
            gradient.sum(before) if wants_bias else None,
            None,
        )


def add_norm(
    x: Tensor, branch: Tensor, dropout: nn.Module, norm: nn.Module
) -> tuple[Tensor, Tensor | None]:
    """Return ``norm(x + dropout(branch))``, and a copy of it in bfloat16 if ``branch`` is in that.

    Args:
        x: the residual stream, (..., size).
        branch: what is added to it, (..., size).
        dropout: a ``FastDropout``, or what stands in its place.
        norm: a ``FastLayerNorm``, or what stands in its place.
    """
    if (
        isinstance(dropout, FastDropout)
        and isinstance(norm, FastLayerNorm)
        and not watched(dropout, norm)
        and x.dtype == norm.weight.dtype == torch.float32
        and loops.suit(x, branch, norm.weight)
    ):
        return loops.norm.add_norm(x, branch, norm.weight, norm.bias, norm.eps, *dropout.draw())
    return norm(x + dropout(branch)), None


class FastFeedForward(FeedForward):
    """The feed-forward part, its activation with the product before it."""

    def forward(self, x: Tensor, hooks: Hooks = NO_HOOKS, low: Tensor | None = None) -> Tensor:
        """Map ``x``, (batch, seq, hidden), to the same shape; ``low`` is ``x`` in bfloat16."""
        if hooks.active:
            return super().forward(x, hooks)
        return product(self.contract, product(self.expand, x, low, self.activation))


class FastDecoderLayer(DecoderLayer):
    """A layer whose dropout, residual sums and norms are one pass each (post-norm)."""

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Map the residual stream, (batch, seq, hidden), to the next layer's."""
        return self.with_copy(x, None, reading)[0]

    def with_copy(
        self, x: Tensor, low: Tensor | None, reading: Reading
    ) -> tuple[Tensor, Tensor | None]:
        """Map the residual stream to the next layer's, each with a copy in bfloat16 or without."""
        if self.norm_first or reading.hooks.active:
            return super().forward(x, reading), None
        attention, feed_forward = self.attention, self.feed_forward
        if isinstance(attention, FastAttention) and not watched(attention):
            mixed = attention(x, reading, low)
        else:
            mixed = attention(x, reading)
        x, low = add_norm(x, mixed, self.dropout, self.attention_norm)
        if isinstance(feed_forward, FastFeedForward) and not watched(feed_forward):
            inner = feed_forward(x, reading.hooks, low)
        else:
            inner = feed_forward(x, reading.hooks)
        return add_norm(x, inner, self.dropout, self.feed_forward_norm)


def in_turn_with_copies(layers: Iterable[nn.Module], x: Tensor, reading: Reading) -> Tensor:
    """Run ``x`` through the layers in turn, its copy in bfloat16 with it from each to the next."""
    low: Tensor | None = None
    for layer in layers:
        if isinstance(layer, FastDecoderLayer) and not watched(layer):
            x, low = layer.with_copy(x, low, reading)
        else:
            x, low = layer(x, reading), None
    return x
