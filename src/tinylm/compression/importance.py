"""What the loss needs of heads and neurons: the derivative with respect to a gate on each.

A gate of 1 multiplies a part's activation; turning it to 0 changes the loss of a text x by
``-dL(x)/dgate``, to first order, which is the sum of activation times gradient over the text.
Importance is the mean over texts of its absolute value (Michel, Levy and Neubig 2019, equation 2):
per text, since a part that helps one and hurts another is needed by both.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tinylm.model.base import GenerativeModel, refuse_many_reads
from tinylm.model.decoder import evaluating

_TEXTS = 8
_IGNORED = -100  # a label that no token has: all are predicted


def batch_losses(model: GenerativeModel, ids: Tensor) -> Iterator[Tensor]:
    """Yield the summed loss of some texts after the other, in nats.

    Args:
        model: in the mode that is wanted.
        ids: (texts, seq), without padding; each token but the first is predicted.
    """
    for batch in _batches(model, ids):
        yield model.summed_loss(model.residual(batch[:, :-1]), batch[:, 1:], _IGNORED)


@torch.no_grad()
def mean_loss(model: GenerativeModel, ids: Tensor) -> float:
    """Return the mean loss of texts, (texts, seq), in nats a token, without dropout."""
    with evaluating(model):
        return float(sum(batch_losses(model, ids))) / ids[:, 1:].numel()


def gate_importance(model: GenerativeModel, ids: Tensor, kind: str) -> list[Tensor]:
    """Return the importance of the parts of each layer.

    Args:
        model: any precision; left as it is.
        ids: texts, (texts, seq), without padding.
        kind: name of the activation that the gates stand on, below its layer: ``attention.mixed``,
            (batch, heads, seq, head_dim), or ``feed_forward.inner``, (batch, seq, neurons).

    Returns:
        (heads,) or (neurons,) a layer, float64: the mean over texts, in nats a token.
    """
    refuse_many_reads(model)
    names = [f"layers.{i}.{kind}" for i in range(model.config.num_layers)]
    totals: list[Tensor] = []
    with evaluating(model), torch.enable_grad():
        for batch in _batches(model, ids):
            kept: dict[str, Tensor] = {}

            def keep(name: str, x: Tensor, kept: dict[str, Tensor] = kept) -> Tensor:
                if name == "embedding":
                    return x.detach().requires_grad_()  # so that frozen weights are no obstacle
                kept[name] = x
                return x

            hooks = model.hooks(dict.fromkeys(["embedding", *names], keep))
            x = model.residual(batch[:, :-1], hooks=hooks)
            loss = model.summed_loss(x, batch[:, 1:], _IGNORED)
            activations = [kept[name] for name in names]
            slopes = torch.autograd.grad(loss, activations)
            gates = [_of_gates(a.detach(), g) for a, g in zip(activations, slopes, strict=True)]
            sums = [gate.abs().sum(0) for gate in gates]
            totals = [a + b for a, b in zip(totals, sums, strict=True)] if totals else sums
    return [total / ids[:, 1:].numel() for total in totals]


def _batches(model: GenerativeModel, ids: Tensor) -> Iterator[Tensor]:
    for start in range(0, len(ids), _TEXTS):
        yield ids[start : start + _TEXTS].to(model.embedding.weight.device)


def _of_gates(activation: Tensor, gradient: Tensor) -> Tensor:
    """Return the derivative with respect to each gate, (batch, parts), float64."""
    products = activation.double() * gradient.double()
    if products.dim() == 4:  # (batch, heads, seq, head_dim)
        return products.sum((2, 3))
    return products.sum(1)  # (batch, seq, neurons)
