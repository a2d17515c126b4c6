"""Learning-rate schedules: the share of the peak rate at a step.

Each function maps how far training is after the warm-up to a factor; ``learning_rate_factor``
puts the linear warm-up before it. The factor multiplies each parameter group's own peak rate, so
that groups with different rates keep their ratio.
"""

from __future__ import annotations

import math

from tinylm.config import TrainingConfig
from tinylm.registry import SCHEDULES


def constant(step: int, total: int, warmup: int, minimum: float) -> float:
    """Return 1."""
    return 1.0


def linear(step: int, total: int, warmup: int, minimum: float) -> float:
    """Fall on a straight line from 1 after the warm-up to ``minimum`` at the last step."""
    return 1.0 - (1.0 - minimum) * _done(step, total, warmup)


def cosine(step: int, total: int, warmup: int, minimum: float) -> float:
    """Fall along half a cosine from 1 to ``minimum`` (Loshchilov and Hutter 2017, equation 5)."""
    return minimum + (1.0 - minimum) * 0.5 * (1.0 + math.cos(math.pi * _done(step, total, warmup)))


def inverse_sqrt(step: int, total: int, warmup: int, minimum: float) -> float:
    """Fall as ``1/sqrt(step)`` from 1 at the end of the warm-up (Vaswani et al. 2017, 5.3)."""
    return math.sqrt(max(warmup, 1) / max(step + 1, warmup, 1))


def _done(step: int, total: int, warmup: int) -> float:
    """Return the share of the steps after the warm-up that are done, from 0 to 1."""
    return min(1.0, max(0, step - warmup) / max(1, total - 1 - warmup))


def learning_rate_factor(config: TrainingConfig, step: int, total: int) -> float:
    """Return the share of the peak rate for optimizer step ``step``, counted from 0.

    Args:
        config: names the schedule, its warm-up and its end.
        step: the step about to be taken.
        total: steps in all.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    factor: float = SCHEDULES.load(config.schedule)(
        step, total, config.warmup_steps, config.min_learning_rate_ratio
    )
    return factor
