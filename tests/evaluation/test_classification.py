"""Accuracy and F1 against scikit-learn, and the order of what a classifier answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor, nn

from tinylm.evaluation.classification import class_log_probabilities, classification_scores


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_scikit_learns(size: int, seed: int) -> None:
    random = np.random.default_rng((size, seed))
    true = random.integers(size, size=40)
    answered = np.where(random.random(40) < 0.5, true, random.integers(size, size=40))
    if seed == 0:
        answered[:] = 1  # labels that are never answered
    if seed == 1:
        true[:] = 0  # labels that nothing has
    names = [f"label {i}" for i in range(size)]
    scores = classification_scores(true.tolist(), answered.tolist(), names)

    options = {"labels": range(size), "zero_division": 0}
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        true, answered, **options
    )
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(true, answered), abs=1e-15)
    macro = metrics.f1_score(true, answered, average="macro", **options)
    assert scores.macro_f1 == pytest.approx(macro, abs=1e-15)
    assert [label.precision for label in scores.labels] == pytest.approx(
        precision.tolist(), abs=1e-15
    )
    assert [label.recall for label in scores.labels] == pytest.approx(recall.tolist(), abs=1e-15)
    assert [label.f1 for label in scores.labels] == pytest.approx(f1.tolist(), abs=1e-15)
    assert [label.support for label in scores.labels] == support.tolist()
    assert [label.label for label in scores.labels] == names
    matrix = metrics.confusion_matrix(true, answered, labels=range(size))
    assert np.array_equal(scores.confusion, matrix)
    assert scores.majority == np.bincount(true).max() / 40
    assert scores.num_texts == 40


class Sums(nn.Module):
    """Answers with the sum and the number of a text's ids."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        assert not self.training
        return torch.stack([(ids * real).sum(1), real.sum(1)], 1) * self.weight


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_answers_stand_in_the_order_of_the_texts(batch_size: int) -> None:
    rows = [[5, 1], [1], [2, 2, 2], [1, 1, 1, 1], [9]]
    model = Sums().train()
    log_probabilities = class_log_probabilities(model, rows, batch_size)
    sums = torch.tensor([[float(sum(row)), float(len(row))] for row in rows])
    assert torch.allclose(log_probabilities, sums.log_softmax(1))
    assert model.training
