"""What the measurements say before they are put into words: losses at equal budgets, differences.

A training's point between two measured ones is read off the straight line between them over the
logarithm of the steps; nothing is read off beyond the last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from tinylm.measurement import Difference, mean

Row = Mapping[str, Any]
Budget = Literal["tokens", "operations", "time", "targets"]
REST: Final = "-rest"
"""Behind the name of a kind that is trained on the rests of windows, against its own way."""
_ROUNDING = 1e-9


def shown_name(name: str) -> str:
    """Return what figures and tables call a variant."""
    kind = name.removesuffix(REST)
    return name if kind == name else f"{kind}, rest alone"


def budget_step(text: Row, training: Row, budget: Budget) -> float:
    """Return the optimizer step at which a training has used what all of them have.

    Args:
        text: of the result, with all its trainings.
        training: one of them.
        budget: ``tokens`` read, ``operations``, seconds of ``time`` in training by the steps'
            median, or ``targets``, the tokens that were predicted.
    """
    every = text["trainings"]
    if budget == "tokens":
        return float(text["common_steps"])
    if budget == "operations":
        return float(training["steps"])
    if budget == "time":
        seconds = min(row["steps"] * row["quick"]["median_s"] for row in every)
        return float(seconds / training["quick"]["median_s"])
    return float(text["common_steps"] * min(row["targets"] for row in every) / training["targets"])


def at(training: Row, step: float, key: str = "loss") -> list[float] | None:
    """Return what was measured after a step, a value a seed; None where it was not trained so far.

    Args:
        training: with its ``curve``.
        step: of the optimizer, at least that of the first point.
        key: ``loss`` or ``accuracy``.
    """
    curve = training["curve"]
    first, last = curve[0]["step"], curve[-1]["step"]
    if not first * (1 - _ROUNDING) <= step <= last * (1 + _ROUNDING):
        return None
    for before, after in itertools.pairwise(curve):
        if step <= after["step"]:
            low, high = math.log(before["step"]), math.log(after["step"])
            share = max(0.0, (math.log(step) - low) / (high - low))
            pairs = zip(before[key], after[key], strict=True)
            return [a + share * (b - a) for a, b in pairs]
    return list(curve[-1][key])


def at_budget(text: Row, name: str, budget: Budget, key: str = "loss") -> list[float] | None:
    """Return a variant's values at a budget, one a seed; None where it was not trained so far."""
    training = training_of(text, name)
    return at(training, budget_step(text, training, budget), key)


def training_of(text: Row, name: str) -> Row:
    """Return the training of a variant."""
    row: Row = next(row for row in text["trainings"] if row["name"] == name)
    return row


def gap(text: Row, name: str, other: str, budget: Budget, key: str = "loss") -> Difference:
    """Return how much more one variant has than another at a budget, paired by the seeds."""
    first, second = (at_budget(text, each, budget, key) for each in (name, other))
    return difference(first, second)


def difference(first: Sequence[float] | None, second: Sequence[float] | None) -> Difference:
    """Return how much more the first is, paired by the seeds; not a number without both."""
    if first is None or second is None:
        return Difference(math.nan, math.nan, math.nan)
    return mean([a - b for a, b in zip(first, second, strict=True)])
