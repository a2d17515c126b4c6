"""A function of rows, computed for some rows at a time, forwards and backwards.

Of the logits of a batch one number a row is kept, so that they need never be there together:
12,000 tokens and 1,300 types are 62 MB an array, and a softmax with its gradient holds four of
them. The backward pass computes the logits of a part again, which costs a product with the
unembedding, and less than what writing and reading those arrays does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_OfRows = Callable[[Tensor, slice], Tensor]


def by_rows(of: _OfRows, x: Tensor, parameters: Sequence[Tensor], size: int) -> Tensor:
    """Return ``of(x[part], part)`` of parts of ``size`` rows, side by side, (rows,).

    Args:
        of: from some rows of ``x``, and which they are, to a number a row.
        x: (rows, ...).
        parameters: what else of ``of`` wants a gradient. Nothing else gets one.
        size: rows of a part; what they are cut into changes results by rounding alone.
    """
    if len(x) <= size or torch.is_autocast_enabled(x.device.type):
        return of(x, slice(0, len(x)))
    made: Tensor = _ByRows.apply(of, size, x, *parameters)  # type: ignore[no-untyped-call]
    return made


def _parts(rows: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, rows, size)]


class _ByRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, of: _OfRows, size: int, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.of, ctx.size = of, size
        ctx.save_for_backward(x, *parameters)
        return torch.cat([of(x[part], part) for part in _parts(len(x), size)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        grad_x = torch.zeros_like(x)
        gradients = [torch.zeros_like(each) for each in parameters]
        for part in _parts(len(x), ctx.size):
            with torch.enable_grad():
                rows = x[part].detach().requires_grad_()
                made = ctx.of(rows, part)
            grad_x[part], *more = torch.autograd.grad(made, (rows, *parameters), gradient[part])
            for total, each in zip(gradients, more, strict=True):
                total += each
        return (None, None, grad_x, *gradients)
