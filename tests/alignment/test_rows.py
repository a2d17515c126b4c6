"""Log-probabilities by rows are those of all rows at once, gradients too."""

from __future__ import annotations

import pytest
import torch

from tests.alignment.spaces import MOST, PROMPT, VOCAB_SIZE, space_model
from tinylm.alignment import log_probabilities
from tinylm.alignment.enumeration import every_response
from tinylm.alignment.log_probabilities import response_rows, token_log_probabilities


@pytest.mark.parametrize("tied", [True, False])
def test_rows_at_a_time_change_nothing(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = space_model(tie_embeddings=tied)
    rows = response_rows(every_response(VOCAB_SIZE, PROMPT, MOST))
    weights = torch.randn(rows.labels.shape, dtype=torch.float64)
    results = []
    for numbers in (2**20, 1):  # all 1,000 labels at once, and 64 at a time
        monkeypatch.setattr(log_probabilities, "_NUMBERS", numbers)
        made = token_log_probabilities(model, rows, temperature=0.7)
        gradients = torch.autograd.grad((weights * made).sum(), list(model.parameters()))
        with torch.no_grad():
            again = token_log_probabilities(model, rows, temperature=0.7)
        torch.testing.assert_close(again, made.detach(), rtol=0, atol=0)
        results.append([made.detach(), *gradients])
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-12)


def test_an_unembedding_that_is_not_trained_gets_no_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_probabilities, "_NUMBERS", 1)
    model = space_model()
    model.unembedding.requires_grad_(False)
    rows = response_rows(every_response(VOCAB_SIZE, PROMPT, MOST))
    token_log_probabilities(model, rows).sum().backward()
    assert model.unembedding.weight.grad is None
    assert model.embedding.weight.grad is not None
