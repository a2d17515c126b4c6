"""How well texts are classified: accuracy, and precision, recall and F1 of every label.

All follow from the confusion matrix. For a label, precision is the share of the texts given it that
have it, recall the share of those that have it that are given it, and F1 their harmonic mean,
``2 TP / (2 TP + FP + FN)``. Macro F1 is the plain mean over the labels, so that a rare label counts
as much as a common one; accuracy hides it (van Rijsbergen 1979, chapter 7). A share of nothing is
0, as in scikit-learn with ``zero_division=0``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tinylm.data.windows import pad_rows
from tinylm.model.decoder import evaluating
from tinylm.model.loss import at_least_float32


@dataclass(frozen=True)
class LabelScores:
    """Shares of one label, each from 0 to 1."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    """Texts that have it."""


@dataclass(frozen=True)
class ClassificationScores:
    """How good a classifier's answers are."""

    accuracy: float
    """Share of right answers, from 0 to 1."""
    macro_f1: float
    """Mean of the labels' F1."""
    majority: float
    """Accuracy of always answering the commonest label of these texts."""
    num_texts: int
    labels: tuple[LabelScores, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Texts by true label (row) and answer (column), in the order of ``labels``."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def classification_scores(
    true: Sequence[int], answered: Sequence[int], labels: Sequence[str]
) -> ClassificationScores:
    """Compare answers with the truth.

    Args:
        true: index of each text's label; not empty.
        answered: index of each answer.
        labels: their names.
    """
    size = len(labels)
    confusion = np.zeros((size, size), dtype=np.int64)  # (true, answered)
    np.add.at(confusion, (np.asarray(true), np.asarray(answered)), 1)
    right = confusion.diagonal()
    support, given = confusion.sum(1), confusion.sum(0)
    precision = _share(right, given)
    recall = _share(right, support)
    f1 = _share(2 * right, given + support)
    total = int(confusion.sum())
    return ClassificationScores(
        accuracy=float(right.sum() / total),
        macro_f1=float(f1.mean()),
        majority=float(support.max() / total),
        num_texts=total,
        labels=tuple(
            LabelScores(name, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, name in enumerate(labels)
        ),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def class_log_probabilities(
    model: nn.Module, rows: Sequence[Sequence[int]], batch_size: int
) -> Tensor:
    """Return the log-probability of every label for every text, (rows, labels), on the CPU.

    Args:
        model: maps ids and ``real``, (batch, seq), to logits; used in eval mode.
        rows: ids of each text.
        batch_size: texts in one forward pass.
    """
    return at_least_float32(for_each_text(model, model, rows, batch_size)).log_softmax(-1)


@torch.no_grad()
def for_each_text(
    model: nn.Module,
    compute: Callable[[Tensor, Tensor], Tensor],
    rows: Sequence[Sequence[int]],
    batch_size: int,
) -> Tensor:
    """Return what a model computes for every text, (rows, numbers), on the CPU.

    Texts of similar lengths share a batch, so that little is computed for padding.

    Args:
        model: put into eval mode meanwhile.
        compute: from ids and what is real, (batch, seq), to (batch, numbers).
        rows: ids of each text; at least one.
        batch_size: texts in one forward pass.
    """
    device = next(model.parameters()).device
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    computed: list[Tensor] = []
    with evaluating(model):
        for start in range(0, len(order), batch_size):
            ids, real = pad_rows([rows[i] for i in order[start : start + batch_size]])
            computed.append(compute(ids.to(device), real.to(device)).cpu())
    joined = torch.cat(computed)
    sorted_back = torch.empty_like(joined)
    sorted_back[torch.tensor(order)] = joined
    return sorted_back


def _share(part: np.ndarray[Any, Any], whole: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return ``part / whole``, 0 where the whole is 0."""
    shares: np.ndarray[Any, Any] = np.zeros(len(part))
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares
