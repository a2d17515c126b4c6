"""What the model does with every subset of its heads, the others replaced.

A head that is left out has its mixed values replaced by given ones: those of a corrupted text, or a
mean. Heads count through the layers: head h of layer l is ``l * num_heads + h``, and bit i of a
subset says whether head i computes by itself. Subsets that agree up to a layer share its run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tinylm.errors import ConfigError
from tinylm.interpretability.ablation import leaving_out
from tinylm.interpretability.gradients import activation_gradients
from tinylm.interpretability.trace import Trace, trace
from tinylm.interpretability.weights import maps_of
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating
from tinylm.model.hooks import Hook
from tinylm.model.reading import Reading

MOST_HEADS = 16
"""Heads up to which all subsets are run: 65,536 of them."""
_TOKENS, _ROWS = 8192, 1024
"""Tokens of a forward pass, about, and texts of whose last tokens logits are taken at once."""


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
        ConfigError: if there are more than ``MOST_HEADS``, or an adapter is inside the attention.
    """
    refuse_many_heads(model)
    rows = len(ids) * 2 ** (model.config.num_layers * model.config.num_heads)
    runs = _SubsetRuns(model, replacements, measure, lambda done: progress(done / rows))
    stream = trace(model, ids.tolist(), names=["layers.0.input"])["layers.0.input"]
    with evaluating(model):
        return runs.values(0, stream)


class _SubsetRuns:
    """The layers one after another, each once for every subset of the heads before it.

    So that what subsets share is computed once. Of the last layer only the last position is needed
    once its heads have mixed.
    """

    def __init__(
        self,
        model: GenerativeModel,
        replacements: Sequence[Tensor],
        measure: Callable[[Tensor], Tensor],
        done: Callable[[int], None],
    ) -> None:
        for layer in range(model.config.num_layers):
            maps_of(model, layer)  # refuses what cannot be run layer by layer
        self.model: Any = model  # a decoder
        self.replacements = replacements
        self.measure = measure
        self.done = done
        self.count = 0

    def values(self, layer: int, x: Tensor) -> Tensor:
        """Return what is measured with each subset of the heads from a layer on, (subsets, rows).

        Args:
            layer: index.
            x: the stream before it, (rows, seq, hidden).
        """
        rows, seq = x.shape[:2]
        bits = torch.arange(self.model.config.num_heads, device=x.device)
        subsets = torch.arange(2 ** len(bits), device=x.device)
        last = layer + 1 == len(self.model.layers)
        seen: dict[str, Tensor] = {}
        self._run(layer, x, lambda name, mixed: seen.update({name: mixed}))
        (mixed,) = seen.values()
        by = self.replacements[layer]
        if last:
            x, mixed, by = x[:, -1:], mixed[:, :, -1:], by[:, :, -1:]
        at_once = max((_ROWS if last else _TOKENS // seq) // rows, 1)
        results = []
        for chosen in torch.split(subsets, at_once):
            kept = (chosen[:, None] >> bits & 1).bool().repeat_interleave(rows, 0)
            replaced = leaving_out(kept, by)("", mixed.repeat(len(chosen), 1, 1, 1))
            after = self._run(layer, x.repeat(len(chosen), 1, 1), partial(_given, replaced))
            if last:
                logits = self.model.unembed(self.model.final_norm(after[:, -1]))
                deeper = self.measure(logits)[None]
                self.count += len(after)
                self.done(self.count)
            else:
                deeper = self.values(layer + 1, after)
            results.append(deeper.view(len(deeper), len(chosen), rows))
        return torch.cat(results, 1).flatten(0, 1)

    def _run(self, layer: int, x: Tensor, hook: Hook) -> Tensor:
        """Run a layer with a hook on what its heads mix.

        Where the last position stands alone, the hook gives what it mixed of all of them.
        """
        places = torch.arange(x.shape[1], device=x.device)[None]
        reading = Reading(
            encoding=self.model.positions,
            positions=places,
            blocked=(places > places.mT)[None],
            hooks=self.model.hooks({f"layers.{layer}.attention.mixed": hook}),
        )
        after: Tensor = self.model.layers[layer](x, reading)
        return after


def _given(held: Tensor | None, _: str, mixed: Tensor) -> Tensor | None:
    return held


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
