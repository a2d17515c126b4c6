"""Exact values of games: worked ones, axioms, and all subsets of a model's heads."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.model.helpers import NORM_PLACEMENTS, build_random
from tinylm.errors import ConfigError
from tinylm.interpretability.shapley import (
    best_subsets,
    greedy_subsets,
    interactions,
    members,
    ranked_subsets,
    shapley_values,
)
from tinylm.interpretability.subsets import (
    estimates,
    gradients_of_heads,
    mixed_of,
    subset_values,
)
from tinylm.interpretability.trace import trace

games = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.floats(-5, 5), min_size=2**n, max_size=2**n)
)


def test_a_worked_game() -> None:
    # Left and right gloves: player 0 has a left one, 1 and 2 a right one each; a pair is worth 1.
    values = [0.0] * 8
    for subset in (0b011, 0b101, 0b111):
        values[subset] = 1.0
    result = shapley_values(torch.tensor(values, dtype=torch.float64))
    torch.testing.assert_close(result, torch.tensor([4 / 6, 1 / 6, 1 / 6], dtype=torch.float64))


@given(games)
def test_values_are_the_mean_gain_over_all_orders(game: list[float]) -> None:
    values = torch.tensor(game, dtype=torch.float64)
    n = len(game).bit_length() - 1
    expected = [0.0] * n
    for order in itertools.permutations(range(n)):
        subset = 0
        for player in order:
            expected[player] += game[subset | 1 << player] - game[subset]
            subset |= 1 << player
    result = shapley_values(values)
    for player in range(n):
        assert result[player].item() == pytest.approx(
            expected[player] / math.factorial(n), abs=1e-12
        )
    assert result.sum().item() == pytest.approx(game[-1] - game[0], abs=1e-12)


@given(games)
def test_interactions_are_differences_of_values_with_and_without_the_other(
    game: list[float],
) -> None:
    values = torch.tensor(game, dtype=torch.float64)
    n = len(game).bit_length() - 1
    result = interactions(values)
    for i, j in itertools.permutations(range(n), 2):
        others = [k for k in range(n) if k != j]

        def subset_of(small: int, others: list[int] = others) -> int:
            return sum(1 << others[b] for b in range(len(others)) if small >> b & 1)

        small = range(2 ** (n - 1))
        with_j = torch.tensor([game[subset_of(s) | 1 << j] for s in small], dtype=torch.float64)
        without = torch.tensor([game[subset_of(s)] for s in small], dtype=torch.float64)
        place = others.index(i)
        expected = (shapley_values(with_j) - shapley_values(without))[place]
        assert result[i, j].item() == pytest.approx(expected.item(), abs=1e-12)
    assert torch.equal(result, result.T)


def test_best_and_greedy_subsets() -> None:
    # Players 0 and 1 are worth much together, each little alone; 2 is worth something by itself.
    values = torch.tensor([0.0, 1.0, 1.0, 9.0, 4.0, 4.5, 4.5, 10.0])
    assert best_subsets(values) == [0, 0b100, 0b011, 0b111]
    assert greedy_subsets(values) == [0, 0b010, 0b011, 0b111]  # once 2 is out it does not come back
    assert ranked_subsets([0.1, 0.2, 0.9]) == [0, 0b100, 0b110, 0b111]
    assert members(0b101) == [0, 2]
    with pytest.raises(ValueError, match="3 values are not those of all subsets"):
        shapley_values(torch.zeros(3))


IDS = torch.tensor([[2, 5, 9, 4, 7], [2, 8, 6, 3, 1]])
OTHER = torch.tensor([[2, 5, 8, 4, 7], [2, 8, 6, 4, 1]])


def difference(logits: Tensor) -> Tensor:
    return logits[:, 3] - logits[:, 4]


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_every_subset_of_heads_is_what_the_model_computes_with_it(norm_placement: str) -> None:
    model = build_random(norm_placement=norm_placement)
    replacements = mixed_of(trace(model, OTHER.tolist()))
    shares: list[float] = []
    values = subset_values(model, IDS, replacements, difference, shares.append)
    assert values.shape == (64, 2)
    assert shares[-1] == 1
    assert torch.allclose(values[-1], difference(model(IDS)[:, -1]), atol=1e-12)
    for subset in (0, 0b000101, 0b110010, 0b011111):

        def replace(name: str, mixed: Tensor, subset: int = subset) -> Tensor:
            layer = int(name.split(".")[1])
            mixed = mixed.clone()
            for head in range(3):
                if not subset >> (layer * 3 + head) & 1:
                    mixed[:, head] = replacements[layer][:, head]
            return mixed

        hooks = model.hooks({"layers.*.attention.mixed": replace})
        expected = difference(model(IDS, hooks=hooks)[:, -1])
        assert torch.allclose(values[subset], expected, atol=1e-12)


def test_a_mean_replaces_every_position() -> None:
    model = build_random()
    means = [mixed.mean((0, 2), keepdim=True) for mixed in mixed_of(trace(model, IDS.tolist()))]
    values = subset_values(model, IDS, means, difference)
    assert torch.allclose(values[-1], difference(model(IDS)[:, -1]), atol=1e-12)
    assert float((values[0] - values[-1]).abs().max()) > 1e-3


@pytest.mark.parametrize("num_layers", [1, 2])
def test_estimates_are_first_order_in_what_changes(num_layers: int) -> None:
    model = build_random(num_layers=num_layers)
    mixed, gradients = gradients_of_heads(model, IDS, difference)
    for kept, expected in zip(mixed, mixed_of(trace(model, IDS.tolist())), strict=True):
        assert torch.equal(kept, expected)
    # Replacements that differ by little: the estimate is right to second order.
    torch.manual_seed(0)
    small = [value + 1e-4 * torch.randn_like(value) for value in mixed]
    values = subset_values(model, IDS, small, difference)
    scores = estimates(values, mixed, gradients, small)
    assert list(scores) == ["ablation", "alone", "attribution patching", "Taylor"]
    bound = 1e-3 * float(scores["ablation"].abs().max())
    assert float((scores["attribution patching"] - scores["ablation"]).abs().max()) < bound
    zeros = [torch.zeros_like(value) for value in mixed]
    by_zeros = estimates(values, mixed, gradients, zeros)["attribution patching"]
    assert torch.allclose(scores["Taylor"], by_zeros.abs())
    if num_layers == 1:  # no head reads another, so that the game is nearly a sum
        for same in (scores["alone"], shapley_values(values.T)):
            assert float((same - scores["ablation"]).abs().max()) < bound


def test_too_many_heads_are_refused() -> None:
    model = build_random(num_layers=6)
    with pytest.raises(ConfigError, match="the model has 18 heads"):
        subset_values(model, IDS, [], difference)
