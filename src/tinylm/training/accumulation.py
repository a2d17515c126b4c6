"""Gradient accumulation: several backward passes, one optimizer step.

Every micro-batch's summed loss is divided by N, the target tokens of all of them together (and of
those of all processes that take the step together), so that k micro-batches give the gradient of
one batch k times as large to rounding, however unevenly padding spreads over them. The mean of the
micro-batches' means would weigh a short one too much (an 84 % wrong gradient for 10 and 2 tokens).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tinylm.errors import TrainingError
from tinylm.training.task import Examples


def accumulate_gradients(
    loss: Callable[[Any], tuple[Tensor, int]],
    batches: Sequence[Examples],
    over_all: Callable[[float], float] = float,
    idle: Sequence[Examples] = (),
) -> tuple[float, int]:
    """Add the gradient of the mean loss over all targets of the batches to ``.grad``.

    Only this function decides what a sum of losses is divided by.

    Args:
        loss: forward pass of one batch; returns the sum of its losses, a scalar, and how many
            there are (``Task.loss``).
        batches: the micro-batches of one optimizer step, those of this process.
        idle: batches that are run for other processes' sake, whose gradient is 0.
        over_all: adds a number up over all processes that take the step together.

    Returns:
        The summed loss of these batches, and N, of all processes. Without any target both are 0
        and no gradient is added.

    Raises:
        TrainingError: if a loss is the sum of another number of targets than its batch has.
    """
    num_targets = round(over_all(sum(batch.num_targets for batch in batches)))
    total = 0.0
    for batch in batches:
        if batch.num_targets == 0:
            continue
        summed, count = loss(batch)
        if count != batch.num_targets:
            raise TrainingError(
                f"the loss is the sum over {count} targets, and its batch has {batch.num_targets}: "
                "let Task.loss and the batch count the same"
            )
        torch.autograd.backward(summed / num_targets)
        total += summed.item()
    for batch in idle:
        torch.autograd.backward(0 * loss(batch)[0])
    return total, num_targets
