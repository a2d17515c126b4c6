"""Cross-entropy of the next token, summed over the labels that count.

The sum, not the mean: what it is divided by (the target tokens of the whole optimizer step) is
known only to the loop.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_ROWS = 256  # in a chunk: with 10,000 types 10 MB of float32, which stays in a cache


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or as it is in float64: log-probabilities need no less."""
    return x if x.dtype == torch.float64 else x.float()


def token_losses(logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
    """Return ``-log softmax(logits)[label]`` of every label that counts.

    Args:
        logits: (batch, seq, vocab); computed with in float32 at least.
        labels: (batch, seq), int64.
        ignored: label of positions that do not count.

    Returns:
        (number of labels that count,), in reading order.
    """
    counted = labels != ignored
    if not counted.all():
        logits, labels = logits[counted], labels[counted]
    logits, labels = logits.flatten(0, -2), labels.flatten()
    logits = at_least_float32(logits)
    # log_softmax keeps one array for the backward pass; logsumexp and a gather would need two.
    return -logits.log_softmax(-1).gather(-1, labels[:, None]).squeeze(-1)


def output_loss(
    x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, ignored: int
) -> Tensor:
    """Return the summed loss of a residual stream without ever holding all its logits.

    The same number as ``token_losses(x @ weight.T + bias, labels, ignored).sum()``, computed for
    256 rows at a time: their logits, the loss, and at once its gradient ``softmax - one-hot``,
    which is multiplied into the gradients of ``x`` and of the weights. The logits of a batch and
    their copies for softmax and gradient, ``rows * vocab`` numbers each and most of the memory of a
    small model's step, are thus never there, and nothing is computed twice.

    Args:
        x: (batch, seq, hidden), after the last layer and norm.
        weight: (vocab, hidden), of the unembedding.
        bias: (vocab,) or None.
        labels: (batch, seq), int64.
        ignored: label of positions that do not count.

    Returns:
        A scalar, in float32 at least. Under autocast the products are computed in its format.
    """
    counted = labels != ignored
    rows, targets = x[counted], labels[counted]  # (rows, hidden), (rows,)
    total: Tensor = _OutputLoss.apply(rows, weight, bias, targets)  # type: ignore[no-untyped-call]
    return total


class _OutputLoss(torch.autograd.Function):
    """Loss and gradients of the output projection, a chunk of rows at a time."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
    ) -> Tensor:
        kind = x.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        # Without gradients in float32 at least, thousands of rows would not add up.
        precise = torch.promote_types(weight.dtype, torch.float32)
        grad_x = torch.empty_like(x) if wants_x else None
        grad_weight = torch.zeros_like(weight, dtype=precise) if wants_weight else None
        grad_bias = (
            torch.zeros_like(bias, dtype=precise) if wants_bias and bias is not None else None
        )
        total = x.new_zeros((), dtype=precise)
        with torch.autocast(kind, enabled=False):
            matrix = weight if low is None else weight.to(low)
            for start in range(0, len(x), _ROWS):
                part = slice(start, start + _ROWS)
                inputs = x[part].to(matrix.dtype)  # (rows, hidden)
                chosen = targets[part, None]  # (rows, 1)
                logits = (inputs @ matrix.T).to(precise)  # (rows, vocab)
                if bias is not None:
                    logits += bias
                # In place: log-probabilities, then probabilities, then the gradient.
                torch.log_softmax(logits, -1, out=logits)
                total -= logits.gather(-1, chosen).sum()
                if not (wants_x or wants_weight or wants_bias):
                    continue
                logits.exp_()
                logits.scatter_add_(-1, chosen, logits.new_full((1, 1), -1).expand(len(chosen), 1))
                if grad_bias is not None:
                    grad_bias += logits.sum(0)
                gradient = logits.to(matrix.dtype)
                if grad_x is not None:
                    grad_x[part] = gradient @ matrix
                if grad_weight is not None:
                    grad_weight += gradient.T @ inputs
        ctx.gradients = (grad_x, grad_weight, grad_bias)
        ctx.kinds = (x.dtype, weight.dtype, None if bias is None else bias.dtype)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        made = tuple(
            None if found is None else (found * gradient).to(kind)
            for found, kind in zip(ctx.gradients, ctx.kinds, strict=True)
        )
        return (*made, None)
