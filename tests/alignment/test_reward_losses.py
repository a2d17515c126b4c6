"""Likelihoods of rankings: beside brute force in float64, worked numbers, properties."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tinylm.alignment.reward_losses import (
    ABSENT,
    bradley_terry,
    centring,
    davidson,
    in_rows,
    plackett_luce,
    rao_kupper,
    reward_loss,
)
from tinylm.config.reward import RewardConfig

Loss = Callable[[Tensor, Tensor], Tensor]
RANKS = torch.tensor([[2, 0, 1, ABSENT], [1, 0, 1, 2], [0, 1, ABSENT, ABSENT], [0, 0, 1, 1]])
"""Without a tie, with one in the middle, a pair, two ties."""
REWARD = st.floats(-5, 5)


def rewards(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(RANKS.shape, generator=generator, dtype=torch.float64)
    return drawn.requires_grad_()


def log_sigmoid(x: Tensor) -> Tensor:
    return x - torch.log1p(x.exp())


def by_hand(loss: str, r: Tensor, ranks: Sequence[int], margin: float, share: float) -> Tensor:
    """One ranking's loss, written out pair by pair."""
    places = [i for i, rank in enumerate(ranks) if rank != ABSENT]
    terms = []
    if loss == "plackett-luce":
        for i in places:
            worse = [r[j].exp() for j in places if ranks[j] > ranks[i]]
            if worse:
                terms.append(-(r[i].exp() / (r[i].exp() + sum(worse))).log())
        return torch.stack(terms).mean()
    for i, j in itertools.permutations(places, 2):
        a, b = r[i].exp(), r[j].exp()
        if ranks[i] < ranks[j]:
            a = a * math.exp(-margin * (ranks[j] - ranks[i]))
        elif ranks[i] > ranks[j] or i > j:
            continue
        tied = ranks[i] == ranks[j]
        if loss == "bradley-terry":
            if not tied:
                terms.append(-(a / (a + b)).log())
        elif loss == "rao-kupper":
            theta = (1 + share) / (1 - share)
            win = a / (a + theta * b)
            tie = (theta**2 - 1) * a * b / ((a + theta * b) * (theta * a + b))
            terms.append(-(tie if tied else win).log())
        else:
            nu = 2 * share / (1 - share)
            whole = a + b + nu * (a * b).sqrt()
            terms.append(-((nu * (a * b).sqrt() if tied else a) / whole).log())
    return torch.stack(terms).mean()


CASES: dict[str, Loss] = {
    "bradley-terry": lambda r, ranks: bradley_terry(r, ranks, 0.3),
    "rao-kupper": lambda r, ranks: rao_kupper(r, ranks, 0.4, 0.3),
    "davidson": lambda r, ranks: davidson(r, ranks, 0.4, 0.3),
    "plackett-luce": plackett_luce,
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_losses_and_gradients_are_those_written_out(name: str, seed: int) -> None:
    r = rewards(seed)
    losses = CASES[name](r, RANKS)
    (gradient,) = torch.autograd.grad(losses @ torch.arange(1.0, 5.0, dtype=torch.float64), r)
    same = rewards(seed)
    wanted = torch.stack(
        [
            by_hand(name, row, ranks.tolist(), 0.3, 0.4)
            for row, ranks in zip(same, RANKS, strict=True)
        ]
    )
    (wanted_gradient,) = torch.autograd.grad(
        wanted @ torch.arange(1.0, 5.0, dtype=torch.float64), same
    )
    torch.testing.assert_close(losses, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-12, atol=1e-12)
    assert (gradient[RANKS == ABSENT] == 0).all()


def test_three_responses_are_three_pairs_and_one_example() -> None:
    r = torch.tensor([[1.3, 0.2, -0.7]], dtype=torch.float64)
    ranks = torch.tensor([[0, 1, 2]])
    pairs = [log_sigmoid(r[0, i] - r[0, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    torch.testing.assert_close(bradley_terry(r, ranks)[0], -torch.stack(pairs).mean())
    two = torch.cat([ranks[:, :2], torch.tensor([[ABSENT]])], 1)
    both = bradley_terry(r.expand(2, 3), torch.cat([ranks, two]))
    torch.testing.assert_close(both[1], -pairs[0])  # no third of it
    assert both.shape == (2,)


@given(first=REWARD, second=REWARD)
def test_a_pair_is_the_same_by_plackett_and_luce(first: float, second: float) -> None:
    r = torch.tensor([[first, second]], dtype=torch.float64)
    for ranks in (torch.tensor([[0, 1]]), torch.tensor([[1, 0]])):
        torch.testing.assert_close(plackett_luce(r, ranks), bradley_terry(r, ranks))


@given(values=st.lists(REWARD, min_size=2, max_size=4))
def test_the_orders_of_plackett_and_luce_have_probabilities(values: list[float]) -> None:
    r = torch.tensor([values], dtype=torch.float64)
    choices = len(values) - 1
    total = sum(
        (-choices * plackett_luce(r, torch.tensor([order]))).exp().item()
        for order in itertools.permutations(range(len(values)))
    )
    assert total == pytest.approx(1)


@given(first=REWARD, second=REWARD, share=st.floats(0.05, 0.95))
def test_win_loss_and_tie_have_probabilities(first: float, second: float, share: float) -> None:
    r = torch.tensor([[first, second]], dtype=torch.float64)
    for loss in (rao_kupper, davidson):
        outcomes = [(0, 1), (1, 0), (0, 0)]
        total = sum((-loss(r, torch.tensor([ranks]), share)).exp().item() for ranks in outcomes)
        assert total == pytest.approx(1)
        equal = torch.full((1, 2), first, dtype=torch.float64)
        assert (-loss(equal, torch.tensor([[0, 0]]), share)).exp().item() == pytest.approx(share)


@given(values=st.lists(REWARD, min_size=4, max_size=4), shift=REWARD, seed=st.integers(0, 99))
def test_a_constant_and_the_order_of_the_responses_change_nothing(
    values: list[float], shift: float, seed: int
) -> None:
    r = torch.tensor([values], dtype=torch.float64)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    ranks = RANKS[1:2]
    for loss in CASES.values():
        torch.testing.assert_close(loss(r + shift, ranks), loss(r, ranks))
        torch.testing.assert_close(loss(r[:, order], ranks[:, order]), loss(r, ranks))


@pytest.mark.parametrize("name", CASES)
def test_what_is_better_is_pushed_up(name: str) -> None:
    r = rewards()
    (gradient,) = torch.autograd.grad(CASES[name](r, RANKS).sum(), r)
    assert gradient[0, 1] < 0 < gradient[0, 0]
    assert gradient[2, 0] < 0 < gradient[2, 1]
    worse = r.detach().clone()
    worse[2] = worse[2].flip(0)
    better = (r if r[2, 0] > r[2, 1] else worse), (worse if r[2, 0] > r[2, 1] else r)
    assert CASES[name](better[0], RANKS)[2] < CASES[name](better[1], RANKS)[2]


def test_ties_teach_where_they_are_likely_and_else_not() -> None:
    r = torch.tensor([[2.0, 0.0, -3.0]], dtype=torch.float64, requires_grad=True)
    ranks = torch.tensor([[0, 0, 1]])
    for loss, drawn_together in (
        (bradley_terry, False),
        (plackett_luce, False),
        (lambda a, b: rao_kupper(a, b, 0.5), True),
        (lambda a, b: davidson(a, b, 0.5), True),
    ):
        (gradient,) = torch.autograd.grad(loss(r, ranks).sum(), r)
        assert (gradient[0, 0] > 0) == drawn_together
    (alone,) = torch.autograd.grad(bradley_terry(r, ranks).sum(), r)
    assert alone[0, 0] < 0


def test_extreme_rewards_stay_finite() -> None:
    r = torch.tensor([[300.0, -300.0, 0.0, 0.0]], requires_grad=True)
    for ranks in (torch.tensor([[0, 1, 2, 2]]), torch.tensor([[2, 0, 1, ABSENT]])):
        for loss in CASES.values():
            losses = loss(r, ranks)
            (gradient,) = torch.autograd.grad(losses.sum(), r)
            assert losses.isfinite().all()
            assert gradient.isfinite().all()


def test_rewards_stand_where_their_ranks_do() -> None:
    ranks = torch.tensor([[1, 0, ABSENT], [0, 1, 2]])
    assert in_rows(torch.arange(1.0, 6.0), ranks).tolist() == [[1, 2, 0], [3, 4, 5]]


def test_the_mean_is_drawn_to_zero() -> None:
    r = torch.tensor([[2.0, -1.0, 9.0]], dtype=torch.float64)
    assert centring(r, torch.tensor([[0, 1, ABSENT]])).tolist() == [1.0]
    assert centring(r, torch.tensor([[0, 1, 1]])).tolist() == [(1 + 121) / 2]


def test_settings_choose_the_loss() -> None:
    r = rewards().detach()
    for settings, wanted in (
        (RewardConfig(), bradley_terry(r, RANKS)),
        (RewardConfig(margin=0.3), bradley_terry(r, RANKS, 0.3)),
        (RewardConfig(loss="plackett-luce"), plackett_luce(r, RANKS)),
        (RewardConfig(ties="rao-kupper", tie_share=0.2), rao_kupper(r, RANKS, 0.2)),
        (RewardConfig(ties="davidson", margin=1.0), davidson(r, RANKS, 0.5, 1.0)),
        (RewardConfig(centre=0.1), bradley_terry(r, RANKS) + 0.1 * centring(r, RANKS)),
    ):
        assert torch.equal(reward_loss(settings)(r, RANKS), wanted)


def test_settings_that_are_said_to_have_no_effect_have_none() -> None:
    """They are refused where they are asked for (tests/contracts/test_effects.py)."""
    r = rewards().detach()
    plain, ranked = RewardConfig(), RewardConfig(loss="plackett-luce")
    for base, changed in (
        (plain, replace(plain, tie_share=0.2)),
        (ranked, replace(ranked, tie_share=0.2)),
        (ranked, replace(ranked, ties="davidson")),
        (ranked, replace(ranked, margin=2.0)),
    ):
        assert torch.equal(reward_loss(changed)(r, RANKS), reward_loss(base)(r, RANKS))
