"""Gradient accumulation: several backward passes, one optimizer step.

Every micro-batch's summed loss is divided by N, the target tokens of all of them together, so that
k micro-batches give the gradient of one batch k times as large to rounding, however unevenly
padding spreads over them. The mean of the micro-batches' means would weigh a short one too much
(an 84 % wrong gradient for 10 and 2 tokens).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from tinylm.data.windows import Batch


def accumulate_gradients(
    summed_loss: Callable[[Batch], Tensor], batches: Sequence[Batch]
) -> tuple[float, int]:
    """Add the gradient of the mean loss over all target tokens of the batches to ``.grad``.

    Args:
        summed_loss: forward pass of one batch; returns the sum of its token losses, a scalar.
        batches: the micro-batches of one optimizer step.

    Returns:
        The summed loss and N. Without any target both are 0 and no gradient is added.
    """
    num_targets = sum(batch.num_targets for batch in batches)
    total = 0.0
    for batch in batches:
        if batch.num_targets == 0:
            continue
        loss = summed_loss(batch)
        (loss / num_targets).backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total, num_targets
