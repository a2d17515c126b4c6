"""The loss of each token of texts, and how much it falls within them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.interpretability.planted import INDUCTION, PREVIOUS, planted_model, repeated_text
from tests.model.helpers import build_random
from tinylm.errors import GenerationError
from tinylm.interpretability.head_ablation import MeanAblation
from tinylm.interpretability.text_losses import batches_of, in_context_score, position_losses

TEXTS = [[2, *range(4, 4 + n)] for n in (3, 9, 1, 12, *[5] * 16)]


def test_each_token_s_loss_is_torch_s() -> None:
    model = build_random()
    losses = position_losses(model, batches_of(model, TEXTS))
    assert losses.shape == (len(TEXTS), 12)
    for row, text in zip(losses, TEXTS, strict=True):
        ids = torch.tensor(text)
        expected = F.cross_entropy(model(ids[None, :-1])[0], ids[1:], reduction="none")
        assert float((row[: len(text) - 1] - expected).detach().abs().max()) < 1e-12
        assert bool(row[len(text) - 1 :].isnan().all())


def test_the_score_is_the_late_loss_less_the_early_one_over_texts_of_both() -> None:
    losses = torch.tensor([[4.0, 3, 1], [5, 3, 0], [9, 9, torch.nan]], dtype=torch.float64)
    score = in_context_score(losses, early=1, late=3)
    assert score.value == pytest.approx((-3 - 5) / 2)
    # Student's interval of the differences -3 and -5: 12.706 standard errors of 1.
    assert score.high - score.value == pytest.approx(12.706, abs=1e-3)
    assert in_context_score(losses, 1, 2).value == pytest.approx(-1)


def test_the_planted_model_learns_in_context_by_its_two_heads_alone() -> None:
    model, texts = planted_model(), [repeated_text(8, seed) for seed in range(6)]
    ablation = MeanAblation(model, texts)
    # Token 10 is the first that the repetition tells.
    whole = in_context_score(ablation.losses(()), early=3, late=12)
    assert whole.high < -3
    for head in (PREVIOUS, INDUCTION):
        assert in_context_score(ablation.losses([head]), 3, 12).value > -0.5 * abs(whole.value)
    others = [(layer, head) for layer in range(2) for head in range(3)]
    others = [head for head in others if head not in (PREVIOUS, INDUCTION)]
    without = in_context_score(ablation.losses(others), 3, 12).value
    assert without == pytest.approx(whole.value, rel=0.02)


@pytest.mark.parametrize(
    ("early", "late", "message"),
    [(0, 3, "early must be 1 or more"), (3, 3, "late more than that"), (1, 13, "no text has a")],
)
def test_places_that_are_not_there_are_refused(early: int, late: int, message: str) -> None:
    model = build_random()
    losses = position_losses(model, batches_of(model, TEXTS))
    with pytest.raises(GenerationError, match=message):
        in_context_score(losses, early, late)
