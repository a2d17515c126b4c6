"""A loss that is a sum over rows, computed for some rows at a time, gradients included.

Logits of a batch are ``rows * vocab`` numbers, and a divergence between two distributions keeps
several arrays of them: most of the memory of a small model's step. Here the loss of a few rows and
its gradients are computed at once, and only the gradients, as large as the input and the
parameters, are kept for the backward pass. Nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_NUMBERS, _MOST_ROWS, _FEWEST_ROWS = 2**22, 2048, 64  # of one array of logits: 16 MiB in float32


def rows_at_once(vocab_size: int) -> int:
    """Return how many rows of logits are held at once."""
    return min(_MOST_ROWS, max(_FEWEST_ROWS, _NUMBERS // vocab_size))


def summed_by_rows(
    loss: Callable[[Tensor, slice], Tensor], x: Tensor, parameters: Sequence[Tensor], size: int
) -> Tensor:
    """Return the sum of ``loss(x[part], part)`` over parts of ``size`` rows.

    Args:
        loss: of some rows of ``x``, and which they are; a scalar, the sum of their losses.
        x: (rows, ...).
        parameters: what else of ``loss`` wants a gradient. Nothing else gets one.
        size: rows of a part; what they are cut into changes the sum by rounding alone.

    Returns:
        A scalar, which can be differentiated once.
    """
    trained = [each for each in parameters if each.requires_grad]
    total: Tensor = _ByRows.apply(loss, size, x, *trained)  # type: ignore[no-untyped-call]
    return total


class _ByRows(torch.autograd.Function):
    """Loss and gradients, a part after the other."""

    @staticmethod
    def forward(
        ctx: Any, loss: Callable[[Tensor, slice], Tensor], size: int, x: Tensor, *trained: Tensor
    ) -> Tensor:
        grad_x = torch.zeros_like(x)
        gradients = [torch.zeros_like(each) for each in trained]
        total: Tensor | float = 0.0
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            with torch.enable_grad():
                rows = x[part].detach().requires_grad_()
                value = loss(rows, part)
                grad_x[part], *added = torch.autograd.grad(value, (rows, *trained))
            for gradient, more in zip(gradients, added, strict=True):
                gradient += more
            total = total + value.detach()
        ctx.gradients = (grad_x, *gradients)
        return total if isinstance(total, Tensor) else x.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the loss by rows was differentiated before: compute it again")
        made, ctx.gradients = ctx.gradients, None
        return (None, None, *(each.mul_(gradient.to(each.dtype)) for each in made))
