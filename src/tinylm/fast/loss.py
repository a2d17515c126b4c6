"""The loss of the output projection in chunks: the logits of a batch are never all there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tinylm.fast import loops
from tinylm.fast.autograd import apply
from tinylm.fast.onednn import input_gradient, linear_map, weight_gradient

_CHUNK_BYTES, _MOST_ROWS = 40 * 2**20, 2048  # of logits held: enough for quick products
_TILE = 64  # rows whose softmax is taken at once: with 10,000 types 2.5 MB, which stay in a cache


def output_loss(
    x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, ignored: int
) -> Tensor:
    """Return the summed loss of a residual stream without ever holding all its logits.

    The same number as ``token_losses(x @ weight.T + bias, labels, ignored).sum()``, computed for
    as many rows at a time as have 40 MiB of logits, 2,048 at most: their logits, the loss, and at
    once its gradient ``softmax - one-hot``, which is multiplied into the gradients of ``x`` and of
    the weights. The logits of a batch and their copies for softmax and gradient, ``rows * vocab``
    numbers each and most of the memory of a small model's step, are thus never there, and nothing
    is computed twice.

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
    if counted.all():  # as nearly always; choosing rows costs a copy, and another one backwards
        rows, targets = x.flatten(0, -2), labels.flatten()
    else:
        rows, targets = x[counted], labels[counted]  # (rows, hidden), (rows,)
    total: Tensor = apply(_OutputLoss, rows, weight, bias, targets)
    return total


class _OutputLoss(torch.autograd.Function):
    """Loss and gradients of the output projection, a chunk of rows at a time."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
    ) -> Tensor:
        kind = x.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        precise = torch.promote_types(weight.dtype, torch.float32)
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        grad_x = torch.zeros_like(x) if wants_x else None
        grad_bias = weight.new_zeros(len(weight), dtype=precise) if wants_bias else None
        grad_weight: Tensor | None = None
        total = x.new_zeros((), dtype=precise)
        with torch.autocast(kind, enabled=False):
            matrix = weight.to(low)
            to_logits = linear_map(matrix, None if bias is None else bias.to(low))
            for part in _slices(len(x), _chunk_rows(matrix)):
                inputs = x[part].to(low)  # (rows, hidden)
                scores = to_logits(inputs)  # (rows, vocab)
                total += _losses_to_gradients(scores, targets[part], precise, grad_bias)
                if grad_x is not None:
                    grad_x[part] = input_gradient(scores, matrix)
                if wants_weight:
                    # Sums over chunks are kept in float32 at least; one alone, where a loop will
                    # scale it, as it is.
                    product = weight_gradient(scores, inputs)
                    if len(inputs) < len(x) or not loops.suit(product, weight):
                        product = product.to(precise)
                    grad_weight = product if grad_weight is None else grad_weight.add_(product)
                    del product
                del scores  # before the next chunk's are made
        if wants_weight and grad_weight is None:
            grad_weight = torch.zeros_like(weight)
        ctx.gradients = (grad_x, grad_weight, grad_bias)
        ctx.kinds = (x.dtype, weight.dtype, None if bias is None else bias.dtype)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError(
                "output_loss: its gradients were given away by the first backward pass; "
                "compute the loss again"
            )
        gradients, ctx.gradients = ctx.gradients, None
        return (
            *(
                None if made is None else _scaled(made, gradient, kind)
                for made, kind in zip(gradients, ctx.kinds, strict=True)
            ),
            None,
        )


def _scaled(made: Tensor, factor: Tensor, kind: torch.dtype) -> Tensor:
    """Return ``factor * made`` in a number format, in the place of ``made`` if it can be."""
    if made.dtype == torch.bfloat16 and kind == torch.float32:
        return loops.loss.scaled(made, float(factor))
    # They are as large as the weights, and nothing else refers to them.
    return made.mul_(factor).to(kind)


def _chunk_rows(matrix: Tensor) -> int:
    """Return how many rows of logits are held at once, for an output projection (vocab, hidden)."""
    rows = _CHUNK_BYTES // (len(matrix) * matrix.element_size())
    return min(_MOST_ROWS, max(_TILE, rows))


def _slices(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, start + size)


def _losses_to_gradients(
    scores: Tensor, targets: Tensor, precise: torch.dtype, grad_bias: Tensor | None
) -> Tensor:
    """Turn logits, (rows, vocab), into the gradient of their losses, in place.

    Returns:
        The summed loss; the gradient's column sums are added to ``grad_bias``.
    """
    if loops.suit(scores):
        total, to_bias = loops.loss.losses_to_gradients(scores, targets)
        if grad_bias is not None:
            grad_bias += to_bias
        return total
    total = scores.new_zeros((), dtype=precise)
    for part in _slices(len(scores), _TILE):
        logits, index = scores[part], targets[part, None]
        exact = logits.to(precise)  # (tile, vocab)
        probability = exact.softmax(-1)
        # The likeliest type has probability exp(0) / sum, so this is the log of exp summed.
        normaliser = exact.amax(-1) - probability.amax(-1).log()
        total += (normaliser - exact.gather(-1, index).squeeze(-1)).sum()
        minus_one = probability.new_full((), -1).expand_as(index)
        probability.scatter_add_(-1, index, minus_one)
        if grad_bias is not None:
            grad_bias += probability.sum(0)
        logits.copy_(probability)
    return total
