"""A loss computed for some rows at a time is the whole one, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tinylm.compression.by_rows import rows_at_once, summed_by_rows
from tinylm.compression.divergences import forward_kl


def parts(vocab: int = 13) -> tuple[Tensor, nn.Linear, Tensor]:
    torch.manual_seed(0)
    unembedding = nn.Linear(5, vocab).double()
    x = torch.randn(10, 5, dtype=torch.float64, requires_grad=True)
    return x, unembedding, torch.randn(10, vocab, dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 3, 10, 64])
def test_value_and_gradients_are_those_of_the_whole(size: int) -> None:
    x, unembedding, teacher = parts()
    wanted = [x, *unembedding.parameters()]
    whole = forward_kl(unembedding(x), teacher, 2.0).sum()
    expected = torch.autograd.grad(0.25 * whole, wanted)

    def loss(rows: Tensor, part: slice) -> Tensor:
        return forward_kl(unembedding(rows), teacher[part], 2.0).sum()

    summed = summed_by_rows(loss, x, wanted[1:], size)
    assert summed.item() == pytest.approx(whole.item(), rel=1e-13)
    for gradient, reference in zip(
        torch.autograd.grad(0.25 * summed, wanted, retain_graph=True), expected, strict=True
    ):
        torch.testing.assert_close(gradient, reference, rtol=1e-12, atol=1e-14)
    with pytest.raises(RuntimeError, match="differentiated before"):
        torch.autograd.grad(summed, wanted)


def test_what_is_frozen_gets_no_gradient_and_no_row_gives_none() -> None:
    x, unembedding, teacher = parts()
    unembedding.bias.requires_grad_(False)

    def loss(rows: Tensor, part: slice) -> Tensor:
        return forward_kl(unembedding(rows), teacher[part]).sum()

    summed_by_rows(loss, x, list(unembedding.parameters()), 4).backward()
    assert unembedding.bias.grad is None
    assert unembedding.weight.grad is not None
    nothing = summed_by_rows(loss, x[:0], list(unembedding.parameters()), 4)
    assert nothing.item() == 0


def test_gradients_reach_the_weights_under_autocast() -> None:
    """A copy in bfloat16 that was made without a graph must not be used again."""
    x, unembedding, teacher = parts()
    single = nn.Linear(5, 13)
    single.load_state_dict({name: each.float() for name, each in unembedding.state_dict().items()})

    def loss(rows: Tensor, part: slice) -> Tensor:
        return forward_kl(single(rows), teacher[part]).sum()

    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            single(x.float())
        low = summed_by_rows(loss, x.detach().float().requires_grad_(), [*single.parameters()], 4)
    low.backward()
    whole = forward_kl(unembedding(x), teacher).sum()
    (exact,) = torch.autograd.grad(whole, unembedding.weight)
    assert single.weight.grad is not None
    torch.testing.assert_close(single.weight.grad.double(), exact, rtol=0.1, atol=0.05)


def test_so_many_rows_that_their_logits_take_16_mib() -> None:
    assert [rows_at_once(vocab) for vocab in (100, 8192, 2**20)] == [2048, 512, 64]
