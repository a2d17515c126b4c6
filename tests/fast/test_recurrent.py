"""Recurrent models with oneDNN's products and the loss in chunks, beside the plain ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.fast import install, is_quick, remove
from tinylm.fast.recurrent import OneDNNProducts, QuickAttending
from tinylm.model.base import GenerativeModel, build
from tinylm.model.recurrent.attentive import Attending
from tinylm.model.recurrent.cells import PLAIN_PRODUCTS

KINDS = ("rnn", "linear-rnn", "gru", "lstm", "seq2seq-additive", "seq2seq-multiplicative")


def after_backward(model: GenerativeModel, ids: Tensor, real: Tensor | None) -> list[Tensor]:
    model.zero_grad()
    x = model.residual(ids, real=real, given=torch.tensor([2, 1, 3]))
    loss = model.summed_loss(x, ids.roll(-1, 1), 0)
    loss.backward()
    return [loss.detach(), x.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_loss_and_gradients_are_those_of_the_plain_model(
    kind: str, padded: bool, bias: bool
) -> None:
    torch.manual_seed(1)
    config = ModelConfig(
        kind=kind, vocab_size=31, hidden_size=24, num_layers=2, dropout=0.0, bias=bias
    )
    model = build(config).train()
    ids = torch.randint(1, 31, (3, 9))
    real = torch.rand(3, 9) > 0.3 if padded else None
    plain = after_backward(model, ids, real)
    install(model)
    assert is_quick(model)
    quick = after_backward(model, ids, real)
    remove(model)
    assert not is_quick(model)
    assert len(plain) == len(quick) == 2 + len(list(model.parameters()))
    for ours, reference in zip(quick, plain, strict=True):
        torch.testing.assert_close(
            ours, reference, rtol=1e-5, atol=1e-5 * float(reference.abs().max())
        )


@given(st.integers(1, 9), st.integers(1, 20), st.integers(1, 4), st.sampled_from([32, 64]))
def test_the_products_are_those_of_torch(batch: int, size: int, gates: int, bits: int) -> None:
    kind = {32: torch.float32, 64: torch.float64}[bits]
    state, weight = (
        torch.randn(batch, size, dtype=kind),
        torch.randn(gates * size, size, dtype=kind),
    )
    given_, back = (torch.randn(batch, gates * size, dtype=kind) for _ in range(2))
    made = []
    for products in (PLAIN_PRODUCTS, OneDNNProducts()):
        recur, out = products.recur(weight), torch.empty_like(given_)
        alone = recur(state, None, torch.empty_like(given_))
        assert recur(state, given_, out) is out
        to_state = products.back(weight)(back, state)
        made.append([alone, out, to_state, products.weight_gradient(back, state)])
    expected = [state @ weight.T, given_ + state @ weight.T, state + back @ weight, back.T @ state]
    for each in made:
        for ours, reference in zip(each, expected, strict=True):
            torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4)


@given(
    batch=st.integers(1, 4),
    source=st.integers(1, 9),
    size=st.integers(1, 20),
    wide=st.integers(0, 3),
    padded=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_a_step_s_attention_in_one_pass_is_that_of_torch(
    batch: int, source: int, size: int, wide: int, padded: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    keys, memory, vector = drawn(batch, source, size), drawn(batch, source, size), drawn(size)
    # A text may have no token at all.
    blocked = torch.rand(batch, source, generator=generator) > 0.5 if padded else None
    queries, above = (drawn(2, batch, size + wide)[..., :size] for _ in range(2))
    made = []
    for attending in (Attending, QuickAttending):
        attend = attending(keys, memory, vector, blocked)
        patterns, contexts = torch.empty(2, batch, source), torch.empty(2, batch, size)
        for step in range(2):
            attend(queries[step], patterns[step], contexts[step])
        to_contexts, to_queries = above.contiguous(), torch.empty(2, batch, size + wide)[..., :size]
        attend = attending(keys, memory, vector, blocked)
        attend.begin_back()
        for step in (1, 0):
            attend.back(queries[step], patterns[step], to_contexts[step], to_queries[step])
        to_memory = attend.end_back(patterns, to_contexts)
        made.append([patterns, contexts, to_queries, attend.to_keys, attend.to_vector, to_memory])
    for plain, quick in zip(*made, strict=True):
        scale = max(1.0, float(plain.abs().max()))
        torch.testing.assert_close(quick, plain, rtol=0, atol=2e-5 * scale)
