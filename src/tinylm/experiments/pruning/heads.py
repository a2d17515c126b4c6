"""Which heads can go: the order in which they are removed beside what each is worth.

Pruning removes the head that the loss needs least to first order, one of each layer after the
other; interpretability replaces each head in turn by its mean and measures the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata
from torch import Tensor

from tinylm.compression.heads import Heads
from tinylm.compression.removal import keep_heads
from tinylm.errors import CompressionError
from tinylm.experiments.context import Context, tell_fewer
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.pruning.settings import PruningExperiment
from tinylm.interpretability.head_ablation import head_worth
from tinylm.language_model import LanguageModel
from tinylm.model.base import GenerativeModel

_ORDERS = 10_000
"""Orders drawn by lot, with which the correlation is compared."""


def heads_that_go(
    context: Context,
    lm: LanguageModel,
    ids: Tensor,
    losses: Callable[[GenerativeModel], list[float]],
) -> dict[str, Any]:
    """Remove all heads of each layer but one, and measure what each head is worth.

    Args:
        context: the run.
        lm: the whole model.
        ids: texts to calibrate by, (texts, seq).
        losses: of a model, by block of validation windows.

    Returns:
        ``heads``: of each its place in the order of removal (0 went first), what it is ``worth``
        in nats a token with its interval, and whether it is ``idle``; ``correlation`` of both
        orders within the layers, and the share of orders by lot whose correlation is as high
        (``by_lot``); ``without``: the losses without 1, 2, … heads of each layer in the order of
        removal and in that of worth. Or ``refused``: why no head can go.
    """
    settings: PruningExperiment = context.config.experiments.pruning
    total = lm.model.config.num_heads
    asked = Heads.Settings(count=max(1, total - 1), windows=settings.windows)
    try:
        pruned = Heads.prune(lm.model, None, asked, ids)
    except CompressionError as error:
        return {"refused": str(error)}
    texts = _stories(context, lm)
    with context.console.task("Switching heads off", total * lm.model.config.num_layers) as done:
        worth = head_worth(lm.model, texts, done)
    order = [[*gone, *_left(total, gone)] for gone in pruned.details["removed"]]
    values = [
        [worth.heads[layer, head].value for head in range(total)] for layer in range(len(order))
    ]
    places = [[gone.index(head) for head in range(total)] for gone in order]
    by_worth = [sorted(range(total), key=each.__getitem__) for each in values]
    correlation, by_lot = _agreement(places, values)
    return {
        "num_heads": total,
        "stories": len(texts),
        "loss": worth.loss,
        "heads": [
            {
                "layer": layer,
                "head": head,
                "place": places[layer][head],
                "worth": worth.heads[layer, head].as_result(),
                "idle": (layer, head) in worth.idle,
            }
            for layer in range(len(order))
            for head in range(total)
        ],
        "correlation": correlation,
        "by_lot": by_lot,
        "without": {
            name: [
                losses(keep_heads(lm.model, [sorted(each[count:]) for each in orders]))
                for count in range(1, total)
            ]
            for name, orders in (("removal", order), ("worth", by_worth))
        },
    }


def _left(total: int, gone: Sequence[int]) -> list[int]:
    return [head for head in range(total) if head not in gone]


def _agreement(places: list[list[int]], values: list[list[float]]) -> tuple[float, float]:
    """Return the mean of the layers' rank correlations, and how often lots reach as much."""
    first = np.array([rankdata(each) for each in places])
    second = np.array([rankdata(each) for each in values])

    def mean_correlation(ranks: Any) -> Any:
        """Return it for orders of (…, layers, heads)."""
        a, b = (x - x.mean(-1, keepdims=True) for x in (ranks, second))
        norms = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
        return ((a * b).sum(-1) / norms).mean(-1)

    measured = float(mean_correlation(first))
    lots = np.random.default_rng(0).permuted(np.tile(first, (_ORDERS, 1, 1)), axis=-1)
    reached = mean_correlation(lots) >= measured - 1e-9
    return measured, float(reached.mean())


def _stories(context: Context, lm: LanguageModel) -> list[list[int]]:
    """Return validation stories, spread evenly over the split, each cut to the context."""
    validation = encoded_split(context.config.data, lm.tokenizer, "validation", context.console)
    wanted = context.config.experiments.pruning.stories
    tell_fewer(context.console, "experiments.pruning.stories", wanted, len(validation))
    chosen = np.linspace(0, len(validation) - 1, min(wanted, len(validation))).round().astype(int)
    length = lm.model.config.context_length
    return [validation.story(int(i))[:length].tolist() for i in chosen]
