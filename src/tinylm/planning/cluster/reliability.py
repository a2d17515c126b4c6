"""Failures of many cards, and how often to write a checkpoint.

Cards that fail independently, each once in M hours on average, fail together once in M / n. A
checkpoint takes d seconds, a restart R; after a failure all since the last checkpoint is done
again. With a checkpoint every t seconds of work,

    expected time / time without failures = M e^(R/M) (e^((t + d)/M) - 1) / t

for exponentially distributed failures (Daly 2006, "A higher order estimate of the optimum
checkpoint interval for restart dumps", equation 20). Young 1974 expands it to first order, t =
sqrt(2 d M); Daly's t is within 0.2 % of the best expected time wherever d < M / 2:

    t = sqrt(2 d M) (1 + sqrt(d / (2 M)) / 3 + d / (18 M)) - d        d < 2 M, otherwise t = M
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CARD_HOURS = 54 * 24 * 16384 / 419
"""Mean hours between failures of a card: 419 unexpected interruptions of 16,384 cards in 54 days
(Llama 3, "The Llama 3 herd of models", 2024, section 3.3.4 and table 5)."""
NODE_STORAGE = 1e9
"""Bytes a second that a node writes of a checkpoint: 0.7e9 on Selene (273 GB/s of 384 nodes,
Narayanan et al. 2021, section 5.10), 1.2e9 with BLOOM (2.3 TB in 40 s from 48 nodes)."""


def young(checkpoint: float, between: float) -> float:
    """Return Young's interval: seconds of work between checkpoints.

    Args:
        checkpoint: seconds that one takes.
        between: mean seconds between failures.
    """
    return math.sqrt(2 * checkpoint * between)


def daly(checkpoint: float, between: float) -> float:
    """Return Daly's interval, arguments as of ``young``."""
    if checkpoint >= 2 * between:
        return between
    share = checkpoint / (2 * between)
    series = 1 + math.sqrt(share) / 3 + share / 9
    return young(checkpoint, between) * series - checkpoint


def slowdown(interval: float, checkpoint: float, restart: float, between: float) -> float:
    """Return expected time by time without failures and checkpoints; infinite where none ends.

    Args:
        interval: seconds of work between checkpoints.
        checkpoint: seconds that one takes.
        restart: seconds until work goes on after a failure.
        between: mean seconds between failures.
    """
    exponent = (interval + checkpoint) / between
    if exponent > 500 or restart / between > 500:
        return math.inf
    return between * math.exp(restart / between) * math.expm1(exponent) / interval


@dataclass(frozen=True)
class Reliability:
    """What failures cost a run."""

    between: float
    """Mean seconds between failures of any card."""
    checkpoint: float
    """Seconds that a checkpoint takes."""
    restart: float
    """Seconds until work goes on after a failure."""

    @property
    def interval(self) -> float:
        """Best seconds of work between checkpoints, by Daly."""
        return daly(self.checkpoint, self.between)

    @property
    def useful(self) -> float:
        """Share of the time that goes into training."""
        return 1 / slowdown(self.interval, self.checkpoint, self.restart, self.between)

    def failures(self, seconds: float) -> float:
        """Return how many failures are expected in so many seconds."""
        return seconds / self.between
