"""Losses of blocks of validation windows: what a result keeps, so that any two models are compared.

Two models that read the same windows are compared block by block, whichever two a reader asks for.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinylm.evaluation.perplexity import SplitLoss
from tinylm.measurement import Difference, mean_replicates, paired
from tinylm.perplexity import perplexity

BLOCKS = 32
"""Blocks whose losses are kept."""
_DECIMALS = 4  # of a block's loss in nats, which is in the thousands


def losses_of(loss: SplitLoss) -> tuple[list[float], list[int]]:
    """Return the summed nats of each block, and its targets."""
    blocks = loss.blocks(BLOCKS)
    return [round(nats, _DECIMALS) for nats, _ in blocks], [tokens for _, tokens in blocks]


def perplexity_of(losses: Sequence[float], tokens: Sequence[int]) -> float:
    """Return the perplexity of summed nats of blocks, and their targets."""
    return perplexity(sum(losses) / sum(tokens))


def loss_difference(
    first: Sequence[float], second: Sequence[float], tokens: Sequence[int]
) -> Difference:
    """Return how much the first mean loss exceeds the second, the blocks paired."""
    return paired(mean_replicates(first, tokens), mean_replicates(second, tokens))
