"""What the figure and the section read out of a result of all ways of compression."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tinylm.experiments.block_losses import loss_difference, perplexity_of
from tinylm.measurement import Difference, Verdict

Row = Mapping[str, Any]
WISHES = ((2, 0.02), (4, 0.05))
"""Times smaller, and how much higher perplexity may be: what one point each is recommended for."""
WHOLE, ROUNDED, MIXED, REMOVED, MASKED = "whole", "rounded", "mixed", "removed", "masked"
"""Kinds of models: as it is; all weights in one width; the embedding in another; parts removed, and
rounded or not; weights held at 0."""


MOST = 1.0
"""Share by which the perplexity of what is drawn is higher, at most."""


def perplexity(result: Row, row: Row) -> float:
    """Return the perplexity of a row."""
    return perplexity_of(row["losses"], result["tokens"])


def more(result: Row, row: Row, other: Row | None = None) -> Difference:
    """Return how much the loss of a row is above another's, in nats a token.

    Args:
        result: of the experiment.
        row: one of it.
        other: another; None: the whole model.
    """
    other = result["rows"][0] if other is None else other
    return loss_difference(row["losses"], other["losses"], result["tokens"])


def increase(result: Row, row: Row) -> float:
    """Return the share by which a row's perplexity is higher than the whole model's."""
    return math.expm1(more(result, row).value)


def shown(result: Row) -> list[Row]:
    """Return the rows that the figure has room for."""
    return [row for row in result["rows"] if increase(result, row) <= MOST]


def frontier(result: Row, rows: Sequence[Row], cost: Callable[[Row], float]) -> list[Row]:
    """Return the rows for which no other is at least as good in both and better in one.

    Args:
        result: of the experiment.
        rows: some of it.
        cost: what should be low beside perplexity.

    Returns:
        Cheapest first.
    """
    best: list[Row] = []
    for row in sorted(rows, key=lambda row: (cost(row), perplexity(result, row))):
        if not best or perplexity(result, row) < perplexity(result, best[-1]):
            best.append(row)
    return best


def num_bytes(row: Row) -> float:
    """Return the bytes of a row."""
    return float(row["bytes"])


def token_seconds(row: Row) -> float:
    """Return the seconds in which a row's model decodes the text."""
    return float(row["decoding"]["median_s"])


def recommended(result: Row, times: float, share: float) -> Row | None:
    """Return a row that is so many times smaller, if one is good enough.

    Of those small enough it is the smallest that is not measurably worse than the best.

    Args:
        result: of the experiment.
        times: smaller than the whole model, at least.
        share: by which its perplexity is higher, at most.
    """
    rows: Sequence[Row] = result["rows"]
    small = [
        row
        for row in rows
        if times * row["bytes"] <= rows[0]["bytes"] and increase(result, row) <= share
    ]
    if not small:
        return None
    best = min(small, key=lambda row: perplexity(result, row))
    as_good = [row for row in small if more(result, row, best).verdict is not Verdict.MORE]
    return min(as_good, key=num_bytes)
