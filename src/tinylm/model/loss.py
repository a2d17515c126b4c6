"""Cross-entropy of the next token, summed over the labels that count.

The sum, not the mean: what it is divided by (the target tokens of the whole optimizer step) is
known only to the training loop.
"""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or as it is in float64: log-probabilities need no less."""
    return x if x.dtype == torch.float64 else x.float()


def token_losses(logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
    """Return ``-log softmax(logits)[label]`` of every label that counts.

    Args:
        logits: (batch, seq, vocab); computed with in float32 at least.
        labels: (batch, seq), int64.
        ignored: label of positions that do not count.

    Returns:
        (number of labels that count,), in reading order.
    """
    counted = labels != ignored
    if not counted.all():
        logits, labels = logits[counted], labels[counted]
    logits, labels = logits.flatten(0, -2), labels.flatten()
    logits = at_least_float32(logits)
    # log_softmax keeps one array for the backward pass; logsumexp and a gather would need two.
    return -logits.log_softmax(-1).gather(-1, labels[:, None]).squeeze(-1)
