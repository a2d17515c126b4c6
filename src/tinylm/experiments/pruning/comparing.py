"""What the figure and the section read out of a result of pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.measurement import Difference, mean_replicates, paired
from tinylm.perplexity import perplexity


def by_share(method: Mapping[str, Any]) -> dict[float, Mapping[str, Any]]:
    """Return share -> row of a method, ascending."""
    return {row["share"]: row for row in sorted(method["rows"], key=lambda row: row["share"])}


def perplexity_of(losses: Sequence[float], tokens: Sequence[int]) -> float:
    """Return the perplexity of summed nats of blocks, and their targets."""
    return perplexity(sum(losses) / sum(tokens))


def loss_difference(
    first: Sequence[float], second: Sequence[float], tokens: Sequence[int]
) -> Difference:
    """Return how much the first mean loss exceeds the second, the blocks paired."""
    return paired(mean_replicates(first, tokens), mean_replicates(second, tokens))
