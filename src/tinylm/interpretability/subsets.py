"""What the model does with every subset of its heads, the others replaced.

A head that is left out has its mixed values replaced by given ones: those of a corrupted text, or a
mean. Heads count through the layers: head h of layer l is ``l * num_heads + h``, and bit i of a
subset says whether head i computes by itself. Many subsets are rows of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from tinylm.errors import ConfigError
from tinylm.interpretability.ablation import leaving_out
from tinylm.interpretability.gradients import activation_gradients
from tinylm.interpretability.trace import Trace
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating

MOST_HEADS = 16
"""Heads up to which all subsets are run: 65,536 of them."""
_TOKENS = 8192
"""Tokens of a forward pass, about."""


def mixed_of(trace: Trace) -> list[Tensor]:
    """Return what each head mixes, (batch, heads, seq, head_dim) a layer."""
    return [trace[f"layers.{i}.attention.mixed"] for i in range(trace.num_layers)]


def refuse_many_heads(model: GenerativeModel) -> None:
    """Refuse a model of too many heads for all subsets of them.

    Raises:
        ConfigError: with their number.
    """
    heads = model.config.num_layers * model.config.num_heads
    if heads > MOST_HEADS:
        raise ConfigError(
            f"the model has {heads} heads, and all subsets are run of {MOST_HEADS} at most: "
            "take a smaller model"
        )


@torch.no_grad()
def subset_values(
    model: GenerativeModel,
    ids: Tensor,
    replacements: Sequence[Tensor],
    measure: Callable[[Tensor], Tensor],
    progress: Callable[[float], None] = lambda share: None,
) -> Tensor:
    """Return what is measured with each subset of heads, (2^heads, batch).

    Args:
        model: any device and precision.
        ids: texts of one length, (batch, seq), without padding.
        replacements: of the heads that are left out, (batch or 1, heads, seq or 1, head_dim) a
            layer.
        measure: of the logits after the last token, (rows, vocab), for rows that are the texts once
            or many times over, in order; returns (rows,).
        progress: called with the share of the subsets that is done.

    Raises:
        ConfigError: if there are more than ``MOST_HEADS``.
    """
    refuse_many_heads(model)
    heads = model.config.num_heads
    bits = torch.arange(model.config.num_layers * heads, device=ids.device)
    count = 2 ** len(bits)
    batch, seq = ids.shape
    at_once = max(_TOKENS // (batch * seq), 1)
    results = []
    with evaluating(model):
        for start in range(0, count, at_once):
            subsets = torch.arange(start, min(start + at_once, count), device=ids.device)
            rows = ids.repeat(len(subsets), 1)  # (subsets * batch, seq)
            kept = (subsets[:, None] >> bits & 1).bool().repeat_interleave(batch, 0)
            hooks = {
                f"layers.{i}.attention.mixed": leaving_out(kept[:, i * heads : (i + 1) * heads], by)
                for i, by in enumerate(replacements)
            }
            x = model.residual(rows, hooks=model.hooks(hooks))
            measured = measure(model.unembed(x[:, -1]))
            results.append(measured.view(len(subsets), batch))
            progress((start + len(subsets)) / count)
    return torch.cat(results)


def gradients_of_heads(
    model: GenerativeModel,
    ids: Tensor,
    measure: Callable[[Tensor], Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """Return what each head mixes, and the gradient of what is measured with respect to it.

    Arguments as of ``activation_gradients``.

    Returns:
        (batch, heads, seq, head_dim) a layer, of both.
    """
    names = [f"layers.{i}.attention.mixed" for i in range(model.config.num_layers)]
    both = activation_gradients(model, ids, names, measure)
    return [both[name][0] for name in names], [both[name][1] for name in names]


def estimates(
    values: Tensor,
    mixed: Sequence[Tensor],
    gradients: Sequence[Tensor],
    replacements: Sequence[Tensor],
) -> Mapping[str, Tensor]:
    """Return what cheaper methods say of each head, (batch, heads of all layers), by name.

    ``ablation``: what is lost when it alone is left out. ``alone``: what is gained when it alone is
    there. ``attribution patching``: the first-order estimate of the ablation, gradient times what
    changes (Nanda 2023). ``Taylor``: the absolute gradient times the output itself, as for pruning
    (Michel, Levy and Neubig 2019; Molchanov et al. 2017).

    Args:
        values: of ``subset_values``, (2^heads, batch).
        mixed: of ``gradients_of_heads``.
        gradients: of ``gradients_of_heads``.
        replacements: as of ``subset_values``.
    """
    heads = len(values).bit_length() - 1
    bits = 1 << torch.arange(heads)
    patching = [
        (gradient * (value - by)).sum((2, 3))
        for value, gradient, by in zip(mixed, gradients, replacements, strict=True)
    ]
    taylor = [
        (gradient * value).sum((2, 3)).abs()
        for value, gradient in zip(mixed, gradients, strict=True)
    ]
    return {
        "ablation": (values[-1] - values[len(values) - 1 - bits]).T,
        "alone": (values[bits] - values[0]).T,
        "attribution patching": torch.cat(patching, 1),
        "Taylor": torch.cat(taylor, 1),
    }
