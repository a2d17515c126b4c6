"""How much the predictions depend on each head: the loss when its output is replaced by its mean.

The output is then the same at every position: it carries nothing of the text, but keeps its usual
size, which zeros would not (Wang et al. 2023, "Interpretability in the Wild", section 2; the heads
of a Transformer were first switched off one by one by Michel, Levy and Neubig 2019, "Are Sixteen
Heads Really Better than One?").

Replacing one head at a time understates what redundant heads do, since another can take over. So
the heads without a measurable difference are also replaced all together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.interpretability.ablation import leaving_out, token_sum
from tinylm.interpretability.text_losses import Batch, batches_of, position_losses
from tinylm.measurement import Difference, Replicates, Verdict, mean_replicates, paired
from tinylm.model.base import GenerativeModel, refuse_many_reads
from tinylm.model.decoder import evaluating

Head = tuple[int, int]
"""Layer and head, from 0."""


@dataclass(frozen=True)
class HeadWorth:
    """The loss with every head, and how much more it is without each."""

    loss: float
    """Nats a token."""
    heads: Mapping[Head, Difference]
    """Nats a token more without it."""
    idle: tuple[Head, ...]
    """Heads without which the loss is not measurably different."""
    without_idle: Difference | None
    """The loss without all of those together; None for fewer than two."""


@torch.no_grad()
def head_worth(
    model: GenerativeModel,
    texts: Sequence[Sequence[int]],
    progress: Callable[[float], None] = lambda done: None,
) -> HeadWorth:
    """Measure how much the loss on texts depends on every head.

    Intervals are those of the paired differences of the texts.

    Args:
        model: any device and precision.
        texts: token ids of each, ``<sos>`` first, of 2 tokens or more and none longer than the
            context.
        progress: called with the number of passes that are done.
    """
    config = model.config
    ablation = MeanAblation(model, texts)

    def measured(heads: Sequence[Head]) -> Replicates:
        losses = ablation.losses(heads)
        return mean_replicates(losses.nansum(1).tolist(), (~losses.isnan()).sum(1).tolist())

    whole = measured(())
    worth: dict[Head, Difference] = {}
    for layer in range(config.num_layers):
        for head in range(config.num_heads):
            worth[layer, head] = paired(measured([(layer, head)]), whole)
            progress(len(worth))
    idle = tuple(key for key, value in worth.items() if value.verdict is Verdict.ALIKE)
    together = paired(measured(idle), whole) if len(idle) > 1 else None
    return HeadWorth(whole.value, worth, idle, together)


class MeanAblation:
    """Texts on which heads are replaced by their mean output over these same texts."""

    @torch.no_grad()
    def __init__(self, model: GenerativeModel, texts: Sequence[Sequence[int]]) -> None:
        """Measure the means.

        Args:
            model: any device and precision.
            texts: token ids of each, of 2 tokens or more and none longer than the context.
        """
        self.model = model
        self.batches = batches_of(model, texts)
        with evaluating(model):
            self.means = _mean_outputs(model, self.batches)

    def losses(self, heads: Sequence[Head]) -> Tensor:
        """Return the loss of each token that is predicted, without these heads.

        Returns:
            (texts, longest - 1), float64, in nats; NaN where there is no token.
        """
        hooks = {}
        for layer in {layer for layer, _ in heads}:
            means = self.means[layer, None, :, None]  # (1, heads, 1, head_dim)
            kept = torch.tensor([[(layer, head) not in heads for head in range(means.shape[1])]])
            hooks[f"layers.{layer}.attention.mixed"] = leaving_out(kept, means)
        return position_losses(self.model, self.batches, hooks)


def _mean_outputs(model: GenerativeModel, batches: Sequence[Batch]) -> Tensor:
    """Return each head's mean output over the positions where a token is predicted.

    Returns:
        (layers, heads, head_dim), float64.
    """
    refuse_many_reads(model)
    config = model.config
    sums = torch.zeros(
        config.num_layers, config.num_heads, config.resolved_head_dim, dtype=torch.float64
    )
    count = 0
    for batch in batches:

        def add(name: str, mixed: Tensor, counted: Tensor = batch.predicting) -> None:
            sums[int(name.split(".")[1])] += token_sum(mixed, counted).cpu()

        model(batch.ids, real=batch.real, hooks=model.hooks({"layers.*.attention.mixed": add}))
        count += int(batch.counts.sum())
    return sums / count
