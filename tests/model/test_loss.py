import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.model.helpers import build_random, largest_difference, random_ids
from tinylm.data.windows import IGNORED, story_rows
from tinylm.model.loss import token_losses


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 4),
    seq=st.integers(1, 6),
    vocab=st.integers(1, 9),
    ignored=st.sampled_from([-100, -1, 0]),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_losses_and_gradients_equal_torchs_cross_entropy(
    batch: int, seq: int, vocab: int, ignored: int, seed: int, data: st.DataObject
) -> None:
    torch.manual_seed(seed)
    logits = (5 * torch.randn(batch, seq, vocab, dtype=torch.float64)).requires_grad_()
    label = st.one_of(st.just(ignored), st.integers(0, vocab - 1))
    row = st.lists(label, min_size=seq, max_size=seq)
    labels = torch.tensor(data.draw(st.lists(row, min_size=batch, max_size=batch)))

    ours = token_losses(logits, labels, ignored)
    flat, targets = logits.flatten(0, 1), labels.flatten()
    theirs = F.cross_entropy(flat, targets, ignore_index=ignored, reduction="none")
    counted = targets != ignored

    assert ours.shape == (int(counted.sum()),)
    if bool(counted.any()):
        assert largest_difference(ours, theirs[counted]) < 1e-12
    weights = torch.randn(len(ours), dtype=torch.float64)
    (mine,) = torch.autograd.grad((ours * weights).sum(), logits)
    (other,) = torch.autograd.grad((theirs[counted] * weights).sum(), logits)
    assert largest_difference(mine, other) < 1e-12
    assert not mine[labels == ignored].any()


def test_the_sum_divided_by_its_count_is_torchs_mean() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 7, dtype=torch.float64)
    labels = torch.randint(7, (3, 5))
    labels[1, 2:] = IGNORED
    losses = token_losses(logits, labels, IGNORED)
    mean = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    assert len(losses) == 12
    assert float(losses.sum() / 12) == pytest.approx(float(mean), abs=1e-14)


def test_hand_worked_losses() -> None:
    logits = torch.tensor([[[0.0, 0, 0, 0], [math.log(3), 0, 0, 0]]], dtype=torch.float64)
    losses = token_losses(logits, torch.tensor([[2, 0]]), IGNORED)
    assert losses.tolist() == pytest.approx([math.log(4), math.log(2)], abs=1e-15)
    losses = token_losses(logits, torch.tensor([[IGNORED, 3]]), IGNORED)
    assert losses.tolist() == pytest.approx([math.log(6)], abs=1e-15)


def test_losses_come_in_reading_order() -> None:
    logits = torch.zeros(2, 3, 5)
    for row in range(2):
        for t in range(3):
            logits[row, t, 0] = -(3 * row + t)
    labels = torch.zeros(2, 3, dtype=torch.long)
    expected = [math.log(4 + math.exp(-i)) + i for i in range(6)]
    assert token_losses(logits, labels, IGNORED).tolist() == pytest.approx(expected, rel=1e-6)
    labels[0, 1] = IGNORED
    del expected[1]
    assert token_losses(logits, labels, IGNORED).tolist() == pytest.approx(expected, rel=1e-6)


def test_no_label_that_counts_gives_no_loss_and_no_nan() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    losses = token_losses(logits, torch.full((2, 3), IGNORED), IGNORED)
    assert losses.shape == (0,)
    losses.sum().backward()
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_computed_with_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits = (4 * torch.randn(2, 3, 50)).to(dtype)
    labels = torch.randint(50, (2, 3))
    losses = token_losses(logits, labels, IGNORED)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, token_losses(logits.float(), labels, IGNORED))
    exact = token_losses(logits.double(), labels, IGNORED)
    assert exact.dtype == torch.float64
    assert largest_difference(losses.double(), exact) < 1e-5  # halves alone: about 1e-2


def test_huge_logits_neither_overflow_nor_vanish() -> None:
    logits = torch.tensor([[[1e4, 0.0, -1e4]]])
    for label, expected in enumerate([0, 1e4, 2e4]):
        assert token_losses(logits, torch.tensor([[label]]), IGNORED).item() == expected


def test_the_first_eos_is_a_target_and_padding_is_left_out_by_mask() -> None:
    # With <eos> and <pad> sharing an id only the mask tells them apart.
    eos = pad = 3
    labels = torch.tensor([[1, 2, eos, pad, pad]])
    real = torch.tensor([[True, True, True, False, False]])
    logits = torch.randn(1, 5, 4)
    losses = token_losses(logits, labels.masked_fill(~real, IGNORED), IGNORED)
    expected = -logits.log_softmax(-1)[0, torch.arange(3), torch.tensor([1, 2, eos])]
    assert torch.equal(losses, expected)


def test_labels_are_the_inputs_shifted_by_one_and_once() -> None:
    # Logits that name the token which follows in the story leave no loss anywhere.
    stories = [[2, 9, 4, 9, 3], [2, 7, 3]]
    batch = story_rows(stories)
    logits = torch.zeros(*batch.ids.shape, 10, dtype=torch.float64)
    for row, story in enumerate(stories):
        for t, following in enumerate(story[1:]):
            assert int(batch.ids[row, t]) == story[t]
            logits[row, t, following] = 100
    losses = token_losses(logits, batch.labels, IGNORED)
    assert losses.shape == (4 + 2,)
    assert float(losses.max()) < 1e-12


def test_a_padded_batch_has_the_losses_of_its_rows() -> None:
    model = build_random()
    ids = random_ids(model, 2, 7)
    real = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    labels = ids[:, 1:].masked_fill(~real, IGNORED)
    with torch.no_grad():
        together = token_losses(model(ids[:, :-1], real=real), labels, IGNORED)
        first = token_losses(model(ids[:1, :-1]), ids[:1, 1:], IGNORED)
        second = token_losses(model(ids[1:, :4]), ids[1:, 1:5], IGNORED)
    assert largest_difference(together, torch.cat((first, second))) < 1e-12
