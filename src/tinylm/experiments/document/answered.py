"""How often the prompts of pairs are answered right, and what that says of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tinylm.measurement import CONFIDENCE, Difference, Verdict, mean
from tinylm.report.formatting import percent

BLIND = 0.5
"""Share of the prompts that a model answers right which does not see the exchanged words: it
answers both prompts of a pair alike, and one of them right."""


def right_share(by_pair: Sequence[float]) -> float:
    """Return the share of all prompts.

    Args:
        by_pair: of ``interpretability.pair_runs.right_answers``.
    """
    return statistics.mean(by_pair)


def right_comment(by_pair: Sequence[float]) -> str:
    """Return how often the model answers right, and where that is by chance, what follows.

    Args:
        by_pair: of ``interpretability.pair_runs.right_answers``.
    """
    more = mean([share - BLIND for share in by_pair])
    share = percent(right_share(by_pair), 0)
    if more.verdict is Verdict.MORE:
        return f"The model answers {share} of the prompts right."
    blind = f"the {percent(BLIND, 0)} of a model that does not see the exchanged words"
    than = "than" if more.verdict is Verdict.LESS else "from"
    return (
        f"The model answers only {share} of the prompts right{_interval(more)}, "
        f"{more.word} {than} {blind}: what is found moves its answers, "
        "but explains little of a right one."
    )


def _interval(more: Difference) -> str:
    """Return the interval of the share in brackets, unless it has no width."""
    low, high = (percent(min(max(BLIND + end, 0), 1), 0) for end in more.ends)
    return "" if low == high else f" ({percent(CONFIDENCE, 0)} interval: {low} to {high})"
