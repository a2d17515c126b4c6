"""Long texts in blocks of queries, against all queries at once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model.helpers import ENCODINGS, build, build_random, largest_difference, random_ids
from tinylm.fast import install, loops
from tinylm.fast.attention import FastAttention
from tinylm.model.attention import Attention
from tinylm.model.positions import Positions
from tinylm.model.reading import Reading


def quick_attention() -> FastAttention:
    model = build_random()
    install(model)
    attention = model.layers[0].attention
    assert isinstance(attention, FastAttention)
    return attention


@pytest.mark.parametrize("positions", ENCODINGS)
@pytest.mark.parametrize("size", [1, 3, 8])
def test_blocks_of_queries_give_the_outputs_and_gradients_of_all_at_once(
    positions: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_random(positions=positions)
    install(model)
    ids = random_ids(model, 3, 8)
    real = torch.tensor([[1] * 8, [0] * 5 + [1] * 3, [1, 0, 1, 1, 0, 1, 1, 0]], dtype=torch.bool)

    def run() -> list[Tensor]:
        model.zero_grad()
        logits = model(ids, real=real)
        logits[real].square().sum().backward()
        return [logits[real].detach(), *(p.grad for p in model.parameters() if p.grad is not None)]

    whole = run()
    monkeypatch.setattr("tinylm.fast.attention._BLOCK", size)
    for block, reference in zip(run(), whole, strict=True):
        assert largest_difference(block, reference) < 1e-10 * (1 + float(reference.abs().max()))


class Nearer(Positions):
    """Lowers the score of a key by its distance, and by the number of its head."""

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        distance = query_positions[:, None, :, None] - key_positions[:, None, None, :]
        return -torch.arange(1.0, 4.0)[:, None, None] * distance


@pytest.mark.skipif(not loops.available(), reason="no numba, or not on Linux")
@pytest.mark.parametrize("low", [False, True])
def test_biased_scores_are_mixed_by_the_loop(low: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 3, 7, 4).to(torch.bfloat16 if low else torch.float32)
    places = torch.arange(7)[None]
    bias = Nearer(build().config).bias(places, places)
    blocked = torch.ones(1, 1, 7, 7, dtype=torch.bool).triu(1)
    attention = quick_attention()
    took: list[Tensor] = []
    mix = loops.attention.attend
    monkeypatch.setattr("tinylm.fast.attention._LOOP_BLOCK", 3)

    def attend(*arguments: Any) -> Tensor:
        took.append(arguments[0])
        return mix(*arguments)

    monkeypatch.setattr(loops.attention, "attend", attend)
    quick = attention.mix(query, key, value, blocked, bias)
    assert len(took) == 1
    given = [tensor.double() for tensor in (query, key, value)]
    expected = Attention.mix(attention, *given, blocked, bias)
    assert quick.dtype == value.dtype
    assert largest_difference(quick.double(), expected) < (0.05 if low else 1e-5)


@pytest.mark.skipif(not loops.available(), reason="no numba, or not on Linux")
@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("kind", ["causal", "padded", "both directions", "any"])
@pytest.mark.parametrize("queries", [1, 8, 33])
def test_loops_in_blocks_give_the_outputs_and_gradients_of_plain_blocks(
    queries: int, kind: str, dropout: float, low: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    keys, size = 33, 8
    blocked = torch.ones(1, 1, queries, keys, dtype=torch.bool).triu(1 + keys - queries)
    if kind == "padded":
        real = torch.arange(keys) >= torch.tensor([[0], [20]])  # some queries see no key at all
        blocked = blocked | ~real[:, None, None]
    elif kind == "both directions":
        blocked = torch.zeros_like(blocked)
    elif kind == "any":
        blocked = torch.rand(2, 1, queries, keys) < 0.5
    attention = build(dropout=dropout).train().layers[0].attention
    quick = copy.deepcopy(attention)
    install(quick)
    assert isinstance(quick, FastAttention)
    number = torch.bfloat16 if low else torch.float32
    given = [
        torch.randn(2, attention.num_heads, count, attention.head_dim).to(number).requires_grad_()
        for count in (queries, keys, keys)
    ]
    exact = [each.detach().double().requires_grad_() for each in given]
    torch.manual_seed(1)  # dropout's masks
    parts = []
    for start in range(0, queries, size):
        rows = slice(start, min(start + size, queries))
        end = 1 + int((~blocked[:, 0, rows]).any(0).any(0).nonzero().max())
        parts.append(
            attention.mix(
                exact[0][:, :, rows],
                *(each[:, :, :end] for each in exact[1:]),
                blocked[:, :, rows, :end],
            )
        )
    expected = torch.cat(parts, 2)
    monkeypatch.setattr("tinylm.fast.attention._LOOP_BLOCK", size)
    torch.manual_seed(1)
    mixed = quick.mix(*given, blocked)
    assert mixed.dtype == number
    gradient = torch.randn(mixed.shape).to(number)
    pairs = [
        (mixed, expected),
        *zip(
            torch.autograd.grad(mixed, given, gradient),
            torch.autograd.grad(expected, exact, gradient.double()),
            strict=True,
        ),
    ]
    for ours, reference in pairs:
        scale = 1 + float(reference.detach().abs().max())
        assert largest_difference(ours.double(), reference) < (0.02 if low else 2e-6) * scale


def test_a_learned_bias_keeps_its_gradient() -> None:
    attention = quick_attention().float()
    query, key, value = torch.randn(3, 2, 3, 7, 4)
    blocked = torch.ones(1, 1, 7, 7, dtype=torch.bool).triu(1)
    bias = torch.randn(1, 3, 7, 7, requires_grad=True)
    attention.mix(query, key, value, blocked, bias).square().sum().backward()
    assert bias.grad is not None
    assert float(bias.grad.abs().sum()) > 0


def test_blocks_of_queries_see_whatever_is_not_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = quick_attention()
    x = torch.randn(2, 7, attention.query_key_value.in_features, dtype=torch.float64)
    for blocked in (
        torch.zeros(7, 7, dtype=torch.bool),  # both directions
        torch.ones(7, 7, dtype=torch.bool).tril(-1),  # backwards
        torch.rand(7, 7, generator=torch.Generator().manual_seed(1)) < 0.5,
        torch.ones(7, 7, dtype=torch.bool),
    ):
        reading = Reading(Positions(build().config), torch.arange(7)[None], blocked[None, None])
        monkeypatch.setattr("tinylm.fast.attention._BLOCK", 256)
        whole = attention(x, reading)
        monkeypatch.setattr("tinylm.fast.attention._BLOCK", 2)
        assert largest_difference(attention(x, reading), whole) < 1e-12


def test_keys_that_no_query_of_a_block_sees_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = quick_attention()
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr("tinylm.fast.attention._BLOCK", 2)

    class Recorder(torch.nn.Module):
        def forward(self, pattern: Tensor) -> Tensor:
            seen.append((pattern.shape[2], pattern.shape[3]))
            return pattern

    attention.dropout = Recorder()
    blocked = torch.ones(1, 1, 5, 5, dtype=torch.bool).triu(1)
    x = torch.randn(1, 5, attention.query_key_value.in_features, dtype=torch.float64)
    attention(x, Reading(Positions(build().config), torch.arange(5)[None], blocked))
    assert seen == [(2, 2), (2, 4), (1, 5)]
