"""Linear maps, quick: bfloat16 products of float32 parameters, and float32 products by oneDNN."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tinylm.fast import loops
from tinylm.fast.autograd import apply
from tinylm.fast.onednn import can_pack, input_gradient, onednn_linear, weight_gradient
from tinylm.model.activations.gelu import gelu, gelu_tanh
from tinylm.model.activations.relu import relu as relu_of
from tinylm.model.activations.silu import silu


def watched(*modules: nn.Module) -> bool:
    """Whether a hook sees what goes into or comes out of one of these modules."""
    for module in modules:
        if (
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
        ):
            return True
    return False


class QuickLinear(nn.Linear):
    """``nn.Linear`` that may be given more than its input."""

    def forward(self, x: Tensor, low: Tensor | None = None, relu: bool = False) -> Tensor:
        """Return ``x @ weight.T + bias``, or ReLU of it, (..., out).

        Args:
            x: (..., in).
            low: ``x`` in bfloat16, where it is there already.
            relu: whether to set what is below 0 to 0.
        """
        product = super().forward(x)
        return torch.relu(product) if relu else product


class FastLinear(QuickLinear):
    """``nn.Linear`` whose products under autocast are oneDNN's, and give float32 gradients.

    In float32 they are oneDNN's too: torch would take them from MKL, which is slower on AMD's
    processors.
    """

    def forward(self, x: Tensor, low: Tensor | None = None, relu: bool = False) -> Tensor:
        """Return ``x @ weight.T + bias``, or ReLU of it; see ``QuickLinear``."""
        if self.weight.dtype != torch.float32 or torch.compiler.is_compiling():
            return super().forward(x, low, relu)
        if torch.is_autocast_enabled("cpu"):
            in_bfloat16 = torch.get_autocast_dtype("cpu") == torch.bfloat16
            if in_bfloat16 and loops.suit(x, self.weight):
                given = x if low is None else low
                return loops.linear.linear(given, self.weight, self.bias, relu)
        elif x.dtype == torch.float32 and x.device.type == "cpu" and can_pack(self.weight):
            product: Tensor = apply(_Float32Linear, x, self.weight, self.bias)
            return torch.relu(product) if relu else product
        return super().forward(x, low, relu)


class _Float32Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        wants_x, wants_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if wants_weight else None, weight if wants_x else None)
        return onednn_linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])
        to_x = to_weight = None
        if wants_x:
            to_x = input_gradient(rows, weight).view(*gradient.shape[:-1], -1)
        if wants_weight:
            to_weight = weight_gradient(rows, x.reshape(-1, x.shape[-1]))
        return to_x, to_weight, rows.sum(0) if wants_bias else None


def product(
    module: nn.Module,
    x: Tensor,
    low: Tensor | None = None,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return ``activation(module(x))``, of a linear map or what stands in its place.

    Args:
        module: the map.
        x: (..., in).
        low: ``x`` in bfloat16, where it is there already.
        activation: empty: none.
    """
    # A hook may change the input, but not its copy, and must see the product before ReLU.
    if not isinstance(module, QuickLinear) or watched(module):
        out: Tensor = module(x)
        return out if activation is None else activation(out)
    fused = activation is relu_of
    out = module(x, low, fused)
    return out if activation is None or fused else quick_activation(activation)(out)


def quick_activation(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the one-pass form of an activation, or the function itself where it has none.

    Written out, GELU in its tanh form goes through the array eight times and keeps five of its
    size: a quarter of a training step of a small model like GPT-2.
    """
    return _QUICK.get(function, function)


def _by_loops(name: str, otherwise: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def activation(x: Tensor) -> Tensor:
        return loops.activations.activate(x, name) if loops.suit(x) else otherwise(x)

    return activation


_QUICK: dict[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] = {
    gelu: _by_loops("gelu", nn.functional.gelu),
    gelu_tanh: _by_loops("gelu_tanh", partial(nn.functional.gelu, approximate="tanh")),
    silu: _by_loops("silu", nn.functional.silu),
}
