"""The best of n responses, where all can be listed."""

from __future__ import annotations

import pytest
import torch

from tests.alignment.spaces import CountReward, TableReward, space, space_model
from tinylm.alignment.best_of import best_of, best_of_bound
from tinylm.alignment.enumeration import kl_divergence


def test_the_bound_is_the_known_numbers() -> None:
    bounds = [best_of_bound(n) for n in (1, 2, 4, 16, 64)]
    assert bounds == pytest.approx([0, 0.193, 0.636, 1.835, 3.175], abs=5e-4)


@pytest.mark.parametrize("reward", [TableReward(), CountReward()])
@pytest.mark.parametrize("n", [1, 2, 4, 16, 64])
def test_the_divergence_stays_below_the_bound_and_near_it(reward: object, n: int) -> None:
    listed = space(space_model(), reward=reward)
    start, rewards = listed.start[0], listed.rewards[0]
    best = best_of(start, rewards, n)
    assert float(best.exp().sum()) == pytest.approx(1, abs=1e-12)
    divergence = float(kl_divergence(best, start))
    assert divergence <= best_of_bound(n) + 1e-12
    if isinstance(reward, TableReward):  # 341 responses of about equal probability
        assert divergence == pytest.approx(best_of_bound(n), rel=0.2)
    # It never earns more than the best policy of the same divergence.
    if n > 1:
        betas = torch.logspace(2, -3, 400, dtype=torch.float64)
        policies = [(start + rewards / beta).log_softmax(0) for beta in betas]
        near = min(policies, key=lambda p: abs(float(kl_divergence(p, start)) - divergence))
        assert float((best.exp() * rewards).sum()) <= float((near.exp() * rewards).sum()) + 5e-3


def test_it_is_what_drawing_gives() -> None:
    start = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    rewards = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)  # a tie
    by_hand = torch.zeros(3, dtype=torch.float64)
    p = start.exp()
    for a in range(3):
        for b in range(3):
            top = [i for i in (a, b) if rewards[i] == max(rewards[a], rewards[b])]
            for i in top:
                by_hand[i] += p[a] * p[b] / len(top)
    torch.testing.assert_close(best_of(start, rewards, 2).exp(), by_hand)
    torch.testing.assert_close(best_of(start, rewards, 1), start)
