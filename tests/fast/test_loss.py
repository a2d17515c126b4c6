"""The output projection and the loss in chunks, against plain logits."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.model.helpers import largest_difference
from tinylm.data.windows import IGNORED
from tinylm.evaluation.memory import peak_bytes
from tinylm.fast import loss
from tinylm.fast.loss import output_loss
from tinylm.model.loss import token_losses


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
    for plain_gradient, chunked_gradient in zip(
        torch.autograd.grad(plain, inputs), torch.autograd.grad(chunked, inputs), strict=True
    ):
        assert largest_difference(plain_gradient, chunked_gradient) < 1e-11
        if num_rows > 1:
            assert plain_gradient.abs().max() > 0


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
    for plain_gradient, chunked_gradient in zip(
        torch.autograd.grad(plain, inputs), torch.autograd.grad(chunked, inputs), strict=True
    ):
        assert largest_difference(plain_gradient, chunked_gradient) < 1e-12


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
    for name, plain_gradient, chunked_gradient, exact_gradient in zip(
        ["loss", "x", "weight", "bias"], gradients(plain), gradients(chunked), exact, strict=True
    ):
        scale = exact_gradient.abs().max()
        assert largest_difference(chunked_gradient, exact_gradient) <= 0.02 * scale, name
        # Sums over chunks are kept in float32, so it is no worse than autocast's own.
        assert (
            largest_difference(chunked_gradient, exact_gradient)
            <= 1.5 * largest_difference(plain_gradient, exact_gradient) + 1e-6
        )


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
