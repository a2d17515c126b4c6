import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.model.helpers import build_random, largest_difference, random_ids
from tinylm.data.windows import IGNORED, story_rows
from tinylm.evaluation.memory import peak_bytes
from tinylm.model import loss
from tinylm.model.loss import output_loss, token_losses


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


# --- the output projection and the loss in chunks ---


@pytest.mark.parametrize("num_rows", [1, 63, 64, 65, 127, 128, 129, 300])
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_chunked_loss_and_its_gradients_equal_the_plain_ones(
    num_rows: int, with_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "_CHUNK_BYTES", 128 * 11 * 8)  # so that chunks are of 128 rows
    torch.manual_seed(num_rows)
    x = torch.randn(1, num_rows, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 6, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(11, dtype=torch.float64, requires_grad=True) if with_bias else None
    labels = torch.randint(0, 11, (1, num_rows))
    labels[0, ::7] = IGNORED
    inputs = [x, weight, *([bias] if bias is not None else [])]

    logits = x @ weight.T if bias is None else x @ weight.T + bias
    plain = token_losses(logits, labels, IGNORED).sum() / 3
    chunked = output_loss(x, weight, bias, labels, IGNORED) / 3
    assert largest_difference(plain, chunked) < 1e-10
    for one, other in zip(
        torch.autograd.grad(plain, inputs), torch.autograd.grad(chunked, inputs), strict=True
    ):
        assert largest_difference(one, other) < 1e-11
        if num_rows > 1:
            assert one.abs().max() > 0


def test_a_chunk_holds_few_logits_whatever_the_vocabulary() -> None:
    for vocab in (100, 10_000, 50_257, 10_000_000):
        for dtype in (torch.bfloat16, torch.float32):
            matrix = torch.empty(vocab, 1, dtype=dtype, device="meta")
            rows = loss._chunk_rows(matrix)
            assert rows == 2048 or rows == 64 or rows * vocab * matrix.element_size() < 42e6
            assert 64 <= rows <= 2048


def test_the_chunked_loss_of_no_label_is_zero() -> None:
    x = torch.randn(2, 3, 4, requires_grad=True)
    weight = torch.randn(5, 4, requires_grad=True)
    total = output_loss(x, weight, None, torch.full((2, 3), IGNORED), IGNORED)
    assert total.item() == 0
    for gradient in torch.autograd.grad(total, [x, weight]):
        assert not gradient.any()


@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_the_chunked_loss_with_a_frozen_part(frozen: str) -> None:
    torch.manual_seed(0)
    parts = {
        "x": torch.randn(2, 5, 4, dtype=torch.float64),
        "weight": torch.randn(9, 4, dtype=torch.float64),
        "bias": torch.randn(9, dtype=torch.float64),
    }
    labels = torch.randint(0, 9, (2, 5))
    inputs = [part.requires_grad_() for name, part in parts.items() if name != frozen]
    chunked = output_loss(parts["x"], parts["weight"], parts["bias"], labels, IGNORED)
    plain = token_losses(parts["x"] @ parts["weight"].T + parts["bias"], labels, IGNORED).sum()
    for one, other in zip(
        torch.autograd.grad(plain, inputs), torch.autograd.grad(chunked, inputs), strict=True
    ):
        assert largest_difference(one, other) < 1e-12


def test_the_chunked_loss_under_autocast_is_as_near_to_float32_as_the_plain_one() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2100, 32, requires_grad=True)
    weight = (0.3 * torch.randn(200, 32)).requires_grad_()
    bias = torch.randn(200, requires_grad=True)
    labels = torch.randint(0, 200, (1, 2100))

    def gradients(total: torch.Tensor) -> list[torch.Tensor]:
        return [total.detach(), *torch.autograd.grad(total, [x, weight, bias])]

    exact = gradients(token_losses(x @ weight.T + bias, labels, IGNORED).sum())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = token_losses(F.linear(x, weight, bias), labels, IGNORED).sum()
        chunked = output_loss(x, weight, bias, labels, IGNORED)
    assert chunked.dtype == torch.float32
    for name, one, other, right in zip(
        ["loss", "x", "weight", "bias"], gradients(plain), gradients(chunked), exact, strict=True
    ):
        scale = right.abs().max()
        assert largest_difference(other, right) <= 0.02 * scale, name
        # Sums over chunks are kept in float32, so it is no worse than autocast's own.
        assert largest_difference(other, right) <= 1.5 * largest_difference(one, right) + 1e-6


def test_the_chunked_loss_never_holds_all_logits() -> None:
    x = torch.randn(1, 8192, 8, requires_grad=True)
    weight = torch.randn(1000, 8, requires_grad=True)
    labels = torch.randint(0, 1000, (1, 8192))

    def step() -> None:
        output_loss(x, weight, None, labels, IGNORED).backward()

    all_logits = 8192 * 1000 * 4
    assert peak_bytes(step) < all_logits / 2


def test_the_chunked_loss_refuses_second_derivatives() -> None:
    x = torch.randn(1, 3, 4, requires_grad=True)
    scale = torch.ones((), requires_grad=True)
    total = scale * output_loss(x, torch.randn(5, 4), None, torch.tensor([[1, 2, 3]]), IGNORED)
    (gradient,) = torch.autograd.grad(total, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_the_chunked_loss_gives_its_gradients_once() -> None:
    x = torch.randn(1, 3, 4, requires_grad=True)
    total = output_loss(x, torch.randn(5, 4), None, torch.tensor([[1, 2, 3]]), IGNORED)
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="given away"):
        total.backward()
