"""The loss of every token of texts, and how much it falls within them.

The in-context learning score is the loss at a late token less that at an early one, in nats: below
0 where the model makes use of what it has read (Olsson et al. 2022, "In-context Learning and
Induction Heads", section on the score; Kaplan et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.errors import GenerationError
from tinylm.measurement import Difference, mean
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating
from tinylm.model.hooks import Hook
from tinylm.model.loss import token_losses

_IGNORED = -100
_ROWS = 16
"""Texts in one forward pass."""


@dataclass(frozen=True)
class Batch:
    """Texts as padded rows."""

    ids: Tensor
    """(batch, seq), all but the last token."""
    labels: Tensor
    """(batch, seq)."""
    real: Tensor
    """(batch, seq), bool."""

    @property
    def predicting(self) -> Tensor:
        """Tokens from which another is predicted, (batch, seq), bool."""
        return self.labels != _IGNORED

    @property
    def counts(self) -> Tensor:
        """Tokens predicted, (batch)."""
        return self.predicting.sum(1).cpu()


def batches_of(model: GenerativeModel, texts: Sequence[Sequence[int]]) -> list[Batch]:
    """Return texts in batches on the model's device."""
    return [_batch(texts[i : i + _ROWS], model) for i in range(0, len(texts), _ROWS)]


def _batch(texts: Sequence[Sequence[int]], model: GenerativeModel) -> Batch:
    longest = max(len(ids) for ids in texts)
    rows = torch.zeros(len(texts), longest, dtype=torch.long)
    real = torch.zeros(len(texts), longest, dtype=torch.bool)
    for row, ids in enumerate(texts):
        rows[row, : len(ids)] = torch.tensor(list(ids))
        real[row, : len(ids)] = True
    labels = rows[:, 1:].masked_fill(~real[:, 1:], _IGNORED)
    device = model.embedding.weight.device
    return Batch(rows[:, :-1].to(device), labels.to(device), real[:, :-1].to(device))


@torch.no_grad()
def position_losses(
    model: GenerativeModel, batches: Sequence[Batch], hooks: Mapping[str, Hook] | None = None
) -> Tensor:
    """Return the loss of each token that is predicted; column i is that of token i + 1.

    Args:
        model: any device and precision.
        batches: of ``batches_of``.
        hooks: replace activations (``model.hooks``).

    Returns:
        (texts, longest - 1), float64, in nats; NaN where there is no token.
    """
    longest = max(batch.ids.shape[1] for batch in batches)
    rows = []
    with evaluating(model):
        for batch in batches:
            logits = model(batch.ids, real=batch.real, hooks=model.hooks(hooks or {}))
            losses = torch.full((len(batch.ids), longest), torch.nan, dtype=torch.float64)
            predicting = torch.zeros_like(losses, dtype=torch.bool)
            predicting[:, : batch.ids.shape[1]] = batch.predicting.cpu()
            # In reading order, as the mask takes them.
            losses[predicting] = token_losses(logits, batch.labels, _IGNORED).double().cpu()
            rows.append(losses)
    return torch.cat(rows)


def in_context_score(losses: Tensor, early: int, late: int) -> Difference:
    """Return the mean loss at token ``late`` less that at token ``early``, over texts of both.

    Args:
        losses: of ``position_losses``.
        early: a token's place in its text, from 1; Olsson et al. take the 50th.
        late: a later one; they take the 500th.

    Raises:
        GenerationError: if the places are not in order, or no text is so long.
    """
    longest = losses.shape[1]
    if not 1 <= early < late:
        raise GenerationError(
            f"early = {early} and late = {late}: early must be 1 or more, and late more than that"
        )
    fell = losses[:, late - 1] - losses[:, early - 1] if late <= longest else losses[:0, 0]
    fell = fell[~fell.isnan()]
    if not len(fell):
        raise GenerationError(
            f"no text has a token {late}: the longest has {longest + 1}, counted from 0"
        )
    return mean(fell.tolist())
