"""The gradients of what is measured with respect to activations: what first-order estimates use."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from tinylm.model.base import GenerativeModel, refuse_many_reads
from tinylm.model.decoder import evaluating


def activation_gradients(
    model: GenerativeModel,
    ids: Tensor,
    names: Iterable[str],
    measure: Callable[[Tensor], Tensor],
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return activations, and the gradient of what is measured with respect to each.

    Args:
        model: any device and precision.
        ids: texts of one length, (batch, seq), without padding.
        names: of activations.
        measure: of the logits after the last token, (batch, vocab); returns (batch,).

    Returns:
        Name -> the activation, detached, and its gradient, which is 0 where nothing that is
        measured depends on it.
    """
    refuse_many_reads(model)
    wanted = list(names)
    kept: dict[str, Tensor] = {}

    def keep(name: str, x: Tensor) -> Tensor:
        if name == "embedding":
            x = x.detach().requires_grad_()  # so that frozen weights are no obstacle
        kept[name] = x
        return x

    with evaluating(model), torch.enable_grad():
        logits = model(ids, hooks=model.hooks(dict.fromkeys(["embedding", *wanted], keep)))
        total = measure(logits[:, -1]).sum()
        derived = torch.autograd.grad(total, [kept[name] for name in wanted], allow_unused=True)
    return {
        name: (
            kept[name].detach(),
            torch.zeros_like(kept[name]) if gradient is None else gradient,
        )
        for name, gradient in zip(wanted, derived, strict=True)
    }
