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
    found = classification_scores(true.tolist(), answered.tolist(), names)

    options = {"labels": range(size), "zero_division": 0}
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        true, answered, **options
    )
    assert found.accuracy == pytest.approx(metrics.accuracy_score(true, answered), abs=1e-15)
    macro = metrics.f1_score(true, answered, average="macro", **options)
    assert found.macro_f1 == pytest.approx(macro, abs=1e-15)
    assert [one.precision for one in found.labels] == pytest.approx(precision.tolist(), abs=1e-15)
    assert [one.recall for one in found.labels] == pytest.approx(recall.tolist(), abs=1e-15)
    assert [one.f1 for one in found.labels] == pytest.approx(f1.tolist(), abs=1e-15)
    assert [one.support for one in found.labels] == support.tolist()
    assert [one.label for one in found.labels] == names
    matrix = metrics.confusion_matrix(true, answered, labels=range(size))
    assert np.array_equal(found.confusion, matrix)
    assert found.majority == np.bincount(true).max() / 40
    assert found.num_texts == 40


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
    found = class_log_probabilities(model, rows, batch_size)
    sums = torch.tensor([[float(sum(row)), float(len(row))] for row in rows])
    assert torch.allclose(found, sums.log_softmax(1))
    assert model.training
