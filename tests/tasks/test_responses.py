"""Instruction tuning: the loss is that of the response, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.tiny import tiny_model, tiny_tokenizer
from tinylm.data.windows import IGNORED
from tinylm.model.base import GenerativeModel
from tinylm.tasks.responses import ResponseModelling, Row, row_of
from tinylm.tokenizers.base import EOS_ID, SOS_ID

PAIRS = [
    ("the cat", " sat on the mat ."),
    ("the dog saw", " the cat ."),
    ("a girl", " was happy ."),
]


def rows() -> list[Row]:
    return [row_of(tiny_tokenizer(), *pair) for pair in PAIRS]


def task() -> ResponseModelling:
    return ResponseModelling(tiny_tokenizer(), rows(), rows()[:2], "pairs", 1)


def by_hand(model: GenerativeModel, row: Row, first: int) -> torch.Tensor:
    """The summed loss of a row's tokens from a place on, one prediction after the other."""
    total = torch.zeros((), dtype=torch.float64)
    for place in range(first, len(row.ids)):
        x = model.residual(torch.tensor([row.ids[:place]]))
        logits = model.unembed(x[:, -1:])[0, 0].double()
        total = total - logits.log_softmax(-1)[row.ids[place]]
    return total


def test_a_row_is_framed_and_the_prompt_given() -> None:
    tokenizer = tiny_tokenizer()
    row = rows()[0]
    prompt, response = (tokenizer.encode(part) for part in PAIRS[0])
    assert row.ids == (SOS_ID, *prompt, *response, EOS_ID)
    assert row.given == 1 + len(prompt)


def test_loss_and_gradients_are_those_of_the_response_alone() -> None:
    model = tiny_model(context_length=16).eval()
    batch = task().batch(np.arange(3))
    loss, count = task().loss(model, batch)
    loss.backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    wanted = sum((by_hand(model, row, row.given) for row in rows()), torch.zeros(()))
    wanted.backward()
    assert count == sum(len(row.ids) - row.given for row in rows())
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    for got, parameter in zip(
        gradients, (p for p in model.parameters() if p.grad is not None), strict=True
    ):
        torch.testing.assert_close(got, parameter.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "wrong", [lambda given: 1, lambda given: given - 1, lambda given: given + 1]
)
def test_a_mask_that_begins_elsewhere_is_another_loss(wrong: Callable[[int], int]) -> None:
    model = tiny_model(context_length=16).eval()
    loss, count = task().loss(model, task().batch(np.arange(3)))
    shifted = [replace(row, given=wrong(row.given)) for row in rows()]
    other = ResponseModelling(tiny_tokenizer(), shifted, shifted, "pairs", 1)
    wrong_loss, wrong_count = other.loss(model, other.batch(np.arange(3)))
    assert wrong_count != count
    assert abs(float(wrong_loss.detach()) - float(loss.detach())) > 0.1


def test_the_end_is_learned_and_padding_is_not() -> None:
    batch = task().batch(np.arange(3))
    for labels, row in zip(batch.labels.tolist(), rows(), strict=True):
        learned = [label for label in labels if label != IGNORED]
        assert learned == list(row.ids[row.given :])
        assert learned[-1] == EOS_ID


def test_validation_is_the_mean_over_the_tokens_held_out() -> None:
    model = tiny_model(context_length=16)
    held_out = rows()[:2]
    total = sum(float(by_hand(model.eval(), row, row.given).detach()) for row in held_out)
    count = sum(len(row.ids) - row.given for row in held_out)
    assert task().validate(model.train()) == pytest.approx(total / count, rel=1e-6)
    assert model.training


def test_micro_batches_are_one_batch() -> None:
    model = tiny_model(context_length=16).eval()
    whole = task().loss(model, task().batch(np.arange(3)))
    parts = [task().loss(model, task().batch(np.array([i]))) for i in range(3)]
    assert float(whole[0].detach()) == pytest.approx(
        sum(float(part[0].detach()) for part in parts), rel=1e-6
    )
    assert whole[1] == sum(part[1] for part in parts)
