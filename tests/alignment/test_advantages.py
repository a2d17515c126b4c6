"""Advantages of a batch: equal to those of each trajectory alone, whatever stands beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tinylm.alignment.advantages import (
    generalised_advantages,
    lambda_returns,
    monte_carlo_returns,
    n_step_returns,
    on_last,
    whitened,
)
from tinylm.planning import advantages as planned

_ROWS, _SEQ = 5, 9


def _batch(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows of several lengths that begin anywhere, with rubbish beside them."""
    draw = np.random.default_rng(seed)
    rewards, values = (torch.from_numpy(draw.normal(size=(_ROWS, _SEQ))) for _ in range(2))
    mask = torch.zeros(_ROWS, _SEQ, dtype=torch.bool)
    for row in range(_ROWS):
        first = int(draw.integers(0, _SEQ))
        mask[row, first : int(draw.integers(first, _SEQ)) + 1] = True
    after = torch.from_numpy(draw.normal(size=_ROWS)) * torch.from_numpy(draw.random(_ROWS) < 0.5)
    return rewards, values, mask, after


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1), st.integers(1, 9))
def test_a_batch_is_its_trajectories(seed: int, gamma: float, lambda_: float, n: int) -> None:
    rewards, values, mask, after = _batch(seed)
    made = {
        "gae": generalised_advantages(rewards, values, mask, gamma, lambda_, after),
        "lambda": lambda_returns(rewards, values, mask, gamma, lambda_, after),
        "n": n_step_returns(rewards, values, mask, gamma, n, after),
        "whole": monte_carlo_returns(rewards, mask, gamma, after),
    }
    for name, batch in made.items():
        assert not batch[~mask].any(), name
    for row in range(_ROWS):
        real = mask[row]
        trajectory = planned.Trajectory(
            tuple(rewards[row, real].tolist()),
            (*values[row, real].tolist(), float(after[row])),
            gamma,
            truncated=True,
        )
        wanted = {
            "gae": planned.generalised_advantages(trajectory, lambda_),
            "lambda": planned.lambda_returns(trajectory, lambda_),
            "n": planned.n_step_returns(trajectory, n),
            "whole": planned.monte_carlo_returns(trajectory),
        }
        for name, numbers in wanted.items():
            assert made[name][row, real].tolist() == pytest.approx(numbers, rel=1e-9, abs=1e-9)


def test_what_stands_after_the_end_changes_nothing() -> None:
    rewards, values, mask, _ = _batch(3)
    other_rewards, other_values = (torch.where(mask, x, 1e6) for x in (rewards, values))
    first = generalised_advantages(rewards, values, mask, 0.9, 0.8)
    second = generalised_advantages(other_rewards, other_values, mask, 0.9, 0.8)
    assert torch.equal(first, second)
    # a mask that is missing lets it in
    everything = torch.ones_like(mask)
    without = generalised_advantages(other_rewards, other_values, everything, 0.9, 0.8)
    assert not torch.allclose(without[mask], first[mask])


def test_the_score_stands_on_the_last_real_token() -> None:
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 0, 0]], dtype=torch.bool)
    scores = torch.tensor([2.0, 3.0, 4.0])
    wanted = torch.tensor([[0, 0, 2.0, 0], [0, 0, 0, 3.0], [4.0, 0, 0, 0]])
    assert torch.equal(on_last(scores, mask), wanted)
    # and without discount it is what every token of the response has earned
    returns = monte_carlo_returns(on_last(scores, mask), mask, 1.0)
    assert torch.equal(returns, mask * scores[:, None])


def test_numbers_are_whitened_over_real_tokens_alone() -> None:
    values, _, mask, _ = _batch(7)
    made = whitened(values, mask)
    real = made[mask]
    assert float(real.mean()) == pytest.approx(0, abs=1e-9)
    assert float(real.var()) == pytest.approx(1, abs=1e-6)
    assert not made[~mask].any()
    moved = whitened(torch.where(mask, values, 1e9), mask)
    assert torch.equal(moved, made)
    kept = whitened(values, mask, keep_mean=True)
    assert float(kept[mask].mean()) == pytest.approx(float(values[mask].mean()))
    one = torch.zeros_like(mask)
    one[0, 0] = True
    assert not whitened(values, one).any()  # one number says nothing about a spread
