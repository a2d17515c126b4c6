"""LayerNorm, dropout, the activations and the position-wise feed-forward part."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tinylm.config import ModelConfig
from tinylm.fast import loops
from tinylm.model.hooks import Hooks
from tinylm.registry import ACTIVATIONS

_GOLDEN_RATIO = 0x9E3779B97F4A7C15 - 2**64
_ROUNDS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
"""Constants of SplitMix64, as signed numbers."""


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
        if torch.is_grad_enabled():
            out: Tensor = _LayerNorm.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
            return out
        return _affine(_normalise(x, self.eps)[0], self.weight, self.bias)


def linear(
    module: nn.Module, x: Tensor, activation: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Return ``activation(module(x))``, of a linear map or what stands in its place."""
    if (
        type(module) is nn.Linear
        and not (module._forward_hooks or module._forward_pre_hooks)
        and torch.is_autocast_enabled("cpu")
        and loops.serve(x, module.weight)
        and module.weight.dtype == torch.float32
    ):
        from tinylm.fast.loops import linear as compiled

        fused = activation is relu
        low = getattr(x, "low", None)
        out = compiled.linear(x if low is None else low, module.weight, module.bias, fused)
        return out if activation is None or fused else activation(out)
    out = module(x)
    return out if activation is None else activation(out)


def add_norm(x: Tensor, branch: Tensor, dropout: Dropout, norm: LayerNorm) -> Tensor:
    """Return ``norm(x + dropout(branch))``, (..., size)."""
    if x.dtype == torch.float32 and loops.serve(x, branch, norm.weight):
        from tinylm.fast.loops import norm as compiled

        drawn = dropout.draw()
        out, low = compiled.add_norm(x, branch, norm.weight, norm.bias, norm.eps, *drawn)
        out.low = low  # type: ignore[attr-defined] # for the products that take it, ``linear``
        return out
    total: Tensor = norm(x + dropout(branch))
    return total


def _normalise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return ``(x - mean) / sqrt(variance + eps)`` and what was multiplied by, (..., 1)."""
    centred = x - x.mean(-1, keepdim=True)
    scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)
    return centred * scale, scale


def _affine(normalised: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return normalised * weight if bias is None else torch.addcmul(bias, normalised, weight)


class _LayerNorm(torch.autograd.Function):
    """Layer normalisation with its gradient in closed form: half of the time of autograd's.

    With n the normalised row, s the scale, and g the gradient from above times the weight, the
    gradient of x is ``s (g - mean(g) - n mean(g n))``. It keeps n and s.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
        normalised, scale = _normalise(x, eps)
        ctx.save_for_backward(normalised, scale, weight)
        return _affine(normalised, weight, bias)

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


class Dropout(nn.Module):
    """Set each number to 0 with probability p, and divide the others by 1 - p, in training.

    Srivastava et al. 2014, in the inverted form. On a CPU a mask takes a fifth of the time of
    torch's: four 16-bit numbers are cut from each random number, of which ``_random_numbers`` makes
    many at once. p is thereby rounded to a multiple of 1/65,536, and the scale is that of the
    rounded p. On a GPU torch's own is used.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._dropped = min(round(p * 2**16), 2**16 - 1)  # of 65,536 values

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``, any shape, with numbers dropped, or ``x`` itself in evaluation."""
        if not self.training or self._dropped == 0:
            return x
        if x.is_cuda:
            return nn.functional.dropout(x, self.p)
        if loops.serve(x):
            from tinylm.fast.loops.dropout import dropout

            return dropout(x, *self.draw())
        count = x.numel()
        # -32,768 .. 32,767, each as likely.
        uniform = _random_numbers(-(-count // 4)).view(torch.int16)[:count].view(x.shape)
        # Written in x's format at once: comparing to bool and converting takes ten times as long.
        keep = torch.ge(uniform, self._dropped - 2**15, out=torch.empty_like(x))
        return x * keep.mul_(2**16 / (2**16 - self._dropped))

    def draw(self) -> tuple[int, int]:
        """Return what a mask follows from: a random number, and how many of 65,536 are dropped."""
        if not self.training or self._dropped == 0:
            return 0, 0
        return _draw(), self._dropped

    def extra_repr(self) -> str:
        """Show p when the module is printed."""
        return f"p={self.p}"


def _draw() -> int:
    """Return a random 64-bit number of torch's generator."""
    return int(torch.empty((), dtype=torch.int64).random_(-(2**63), None))


def _random_numbers(count: int) -> Tensor:
    """Return (count,) random int64, all 64 bits of them, made from one draw of torch's generator.

    SplitMix64 (Steele, Lea and Flood 2014, figures 16 and 17): number i is a hash of ``draw + i *
    golden ratio``. Unlike a generator that goes from each state to the next, it makes them by array
    operations, on all cores.
    """
    z = torch.arange(count, dtype=torch.int64).mul_(_GOLDEN_RATIO).add_(_draw())
    for shift, factor in _ROUNDS:
        # The mask makes the shift of a signed number one of its bits.
        z.bitwise_xor_((z >> shift).bitwise_and_(2 ** (64 - shift) - 1)).mul_(factor)
    return z.bitwise_xor_((z >> 31).bitwise_and_(2**33 - 1))


def relu(x: Tensor) -> Tensor:
    """``max(x, 0)`` (Vaswani et al. 2017, equation 2)."""
    return torch.relu(x)


def gelu(x: Tensor) -> Tensor:
    """``x * Phi(x)`` with the exact normal distribution (Hendrycks and Gimpel 2016)."""
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of GELU that GPT-2 uses (Hendrycks and Gimpel 2016, section 2)."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class FeedForward(nn.Module):
    """``contract(activation(expand(x)))`` at every position (Vaswani et al. 2017, 3.3)."""

    def __init__(self, config: ModelConfig, name: str) -> None:
        super().__init__()
        self.name = name
        self.expand = nn.Linear(config.hidden_size, config.resolved_ffn_size, bias=config.bias)
        self.contract = nn.Linear(config.resolved_ffn_size, config.hidden_size, bias=config.bias)
        self.activation = ACTIVATIONS.load(config.activation)

    def forward(self, x: Tensor, hooks: Hooks) -> Tensor:
        """Map ``x``, (batch, seq, hidden), to the same shape."""
        inner = linear(self.expand, x, self.activation)  # (batch, seq, ffn)
        inner = hooks(f"{self.name}.inner", inner)
        return hooks(f"{self.name}.output", linear(self.contract, inner))
