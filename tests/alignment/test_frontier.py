"""The frontier of reward and KL, against a search over all policies of a small space."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylm.alignment.frontier import averaged, betas_of, frontier

SPACES = st.lists(st.tuples(st.floats(-3, 3), st.floats(0.01, 1)), min_size=2, max_size=6).filter(
    lambda pairs: len({round(reward, 6) for reward, _ in pairs}) > 1
)


def test_a_reward_of_two_values_costs_the_logarithm_of_its_rarity() -> None:
    (last,) = frontier([1, 0, 0, 0], [1e-3])
    assert last.reward == pytest.approx(1)
    assert last.kl == pytest.approx(math.log(4))
    (first,) = frontier([1, 0, 0, 0], [1e6])
    assert first.reward == pytest.approx(0.25, abs=1e-6)
    assert first.kl == pytest.approx(0, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(SPACES, st.floats(0.05, 5))
def test_it_is_the_policy_by_its_definition(space: list[tuple[float, float]], beta: float) -> None:
    rewards, weights = map(np.array, zip(*space, strict=True))
    start = weights / weights.sum()
    best = start * np.exp((rewards - rewards.max()) / beta)
    best /= best.sum()
    (point,) = frontier(rewards, [beta], weights)
    assert point.reward == pytest.approx(float(best @ rewards), abs=1e-9)
    held = best > 0
    kl = float((best[held] * np.log(best[held] / start[held])).sum())
    assert point.kl == pytest.approx(kl, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(SPACES, st.floats(0.05, 5), st.integers(0, 2**31))
def test_no_policy_has_a_better_objective(
    space: list[tuple[float, float]], beta: float, seed: int
) -> None:
    rewards, weights = map(np.array, zip(*space, strict=True))
    start = weights / weights.sum()
    (point,) = frontier(rewards, [beta], start)
    most = point.reward - beta * point.kl
    policies = np.random.default_rng(seed).dirichlet(np.ones(len(start)), 200)
    kl = (policies * np.log(policies / start + 1e-300)).sum(1)
    assert (policies @ rewards - beta * kl <= most + 1e-9).all()


def test_drawn_responses_count_alike() -> None:
    drawn = frontier([0.0, 0.0, 1.0, 0.5], [0.3])
    assert drawn == frontier([0.0, 1.0, 0.5], [0.3], [2, 1, 1])


def test_the_whole_curve_is_drawn() -> None:
    points = frontier([0, 0, 0, 0.5, 1], betas_of([0, 0, 0, 0.5, 1]))
    assert points[0].kl < 0.01
    assert points[-1].reward > 0.99
    assert all(a.kl <= b.kl and a.reward <= b.reward for a, b in pairwise(points))
    assert frontier([2.0, 2.0], betas_of([2.0, 2.0]))[0].kl == 0


def test_over_several_prompts_it_is_the_mean_of_theirs() -> None:
    always, never, sometimes = [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]
    (point,) = averaged([always, never, sometimes], [1e-3])
    assert point.reward == pytest.approx(2 / 3)
    assert point.kl == pytest.approx(math.log(2) / 3)
