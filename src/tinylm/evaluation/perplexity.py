"""Perplexity: exp of the mean negative log-likelihood a token, in nats.

The token-weighted form divides the sum over all texts by the number of all their tokens. The mean
of the texts' own perplexities is another, usually larger number; it is named ``sequence_mean``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinylm.data.windows import IGNORED, Batch, Windows
from tinylm.measurement import Replicates, mean_replicates
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating
from tinylm.model.loss import token_losses
from tinylm.perplexity import perplexity
from tinylm.planning.limits import refuse_forward

BLOCKS = 64
"""Blocks of windows at most, by which the losses of two models are compared."""


@dataclass(frozen=True)
class SplitLoss:
    """The loss of a model on a split, on part of it, or on stories."""

    total: float
    """Sum of the token losses, in nats."""
    num_tokens: int
    """Tokens predicted."""
    windows: Tensor | None = field(default=None, compare=False, repr=False)
    """The loss of each window or story in nats and its tokens, (windows, 2), in float64."""

    @classmethod
    def of(cls, windows: Tensor) -> SplitLoss:
        """Return the loss of windows, (windows, 2): of each its nats and its tokens."""
        return cls(float(windows[:, 0].sum()), int(windows[:, 1].sum()), windows)

    @property
    def mean(self) -> float:
        """Nats a token."""
        return self.total / max(1, self.num_tokens)

    @property
    def perplexity(self) -> float:
        """``exp(mean)``."""
        return perplexity(self.mean)

    def blocks(self, most: int) -> list[tuple[float, int]]:
        """Return losses and tokens of neighbouring windows added up, in at most so many blocks."""
        assert self.windows is not None
        parts = torch.tensor_split(self.windows, min(most, len(self.windows)))
        return [(float(part[:, 0].sum()), int(part[:, 1].sum())) for part in parts]

    def replicates(self, most: int = BLOCKS) -> Replicates:
        """Return the mean loss with what it is without each block, to be compared in pairs."""
        losses, tokens = zip(*self.blocks(most), strict=True)
        return mean_replicates(losses, tokens)

    def bits_per_byte(self, num_bytes: int) -> float:
        """Return the loss in bits, divided by the bytes of the text that the tokens stand for.

        Comparable between tokenizers, except that a word read as ``<unk>`` costs too little.
        """
        return self.total / math.log(2) / num_bytes


@torch.no_grad()
def split_loss(
    model: GenerativeModel,
    windows: Windows,
    batch_size: int,
    indices: Sequence[int] | npt.NDArray[np.int64] | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> SplitLoss:
    """Measure the loss on windows of a split, all of them by default.

    Every token but the split's first is predicted once, from the tokens before it in its window; of
    pairs, every token of a target and its end, from the source and what of the target is before.

    Args:
        model: evaluated without dropout, then put back into its mode.
        windows: the split.
        batch_size: windows in one forward pass.
        indices: the windows to use; empty: all.
        progress: called with the share of them that is done.

    Raises:
        ConfigError: if a batch needs more memory than there is.
    """
    device = model.embedding.weight.device
    count = len(windows) if indices is None else len(indices)
    if device.type == "cpu":
        rows = min(batch_size, count)
        refuse_forward(model.config, rows, windows.longest, "evaluation.batch_size")
    losses = [torch.zeros(0, 2, dtype=torch.float64)]  # so that no window is a split, too
    done = 0
    with evaluating(model):
        for batch in windows.in_order(batch_size, indices):
            losses.append(window_losses(model, batch.to(device)))
            done += len(losses[-1])
            progress(done / count)
    return SplitLoss.of(torch.cat(losses))


def window_losses(model: GenerativeModel, batch: Batch) -> Tensor:
    """Return the loss of each row of a batch in nats and its targets, (rows, 2), in float64."""
    x = model.read(batch)
    sums = []
    for row, labels in zip(x, batch.labels, strict=True):  # the logits of one at a time
        losses = token_losses(model.unembed(row[None]), labels[None], IGNORED).double()
        sums.append(torch.stack((losses.sum(), losses.new_tensor(len(losses)))))
    return torch.stack(sums).cpu()


def token_weighted_perplexity(texts: Sequence[Sequence[float]]) -> float:
    """Return exp of the mean negative log-probability over all tokens of all texts."""
    values = [value for text in texts for value in text]
    return perplexity(-sum(values) / len(values)) if values else math.nan


def sequence_mean_perplexity(texts: Sequence[Sequence[float]]) -> float:
    """Return the mean of the texts' own perplexities; texts without tokens are left out."""
    own = [perplexity(-sum(text) / len(text)) for text in texts if text]
    return sum(own) / len(own) if own else math.nan
