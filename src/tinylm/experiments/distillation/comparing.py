"""What the figure and the section read out of a result of distillation."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from tinylm.measurement import Difference, mean
from tinylm.perplexity import perplexity

Row = Mapping[str, Any]
LOSS = "loss"
BLEU = {"greedy": "greedy decoding", "beam": "beam search"}
"""Strategy -> its name in a sentence."""


def values(method: Row, key: str) -> list[float]:
    """Return one value a seed: a loss in nats a token, a BLEU or seconds."""
    return [float(student[key]) for student in method["students"]]


def average(method: Row, key: str) -> float:
    """Return the mean over the seeds; of losses it is the perplexity of the mean loss."""
    value = fmean(values(method, key))
    return perplexity(value) if key == LOSS else value


def beside_alone(result: Row, method: Row, key: str) -> Difference:
    """Return how much a method's students exceed those that learn alone, seed by seed.

    Args:
        result: of the experiment ``distillation``.
        method: a row of it.
        key: loss, in nats a token, or the BLEU of a strategy.
    """
    alone = values(result["methods"][0], key)
    return mean([own - other for own, other in zip(values(method, key), alone, strict=True)])
