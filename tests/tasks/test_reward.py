"""The task of reward models: rankings as examples, a frozen body, rewards that are recovered."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tests.training.tiny import tiny_model, tiny_tokenizer
from tinylm.alignment.reward_losses import bradley_terry
from tinylm.alignment.reward_model import RewardModel, rewards_of
from tinylm.config.reward import RewardConfig
from tinylm.data.preferences import Preferences, Ranking
from tinylm.tasks.reward import RewardModelling, right_pairs
from tinylm.tokenizers.base import EOS_ID, SOS_ID

RANKINGS = (
    Ranking((SOS_ID, 4), ((5, EOS_ID), (6, 7, 8, EOS_ID), (9,)), (1, 0, 2)),
    Ranking((SOS_ID, 5, 6), ((7, EOS_ID), (8, EOS_ID)), (0, 1)),
    Ranking((SOS_ID, 4), ((5, 6, EOS_ID), (6, EOS_ID), (7, 7, EOS_ID), (8,)), (0, 1, 1, 2)),
)


def task(train: Sequence[Ranking] = RANKINGS, **settings: object) -> RewardModelling:
    preferences = Preferences(tuple(train), RANKINGS[:2], "made")
    return RewardModelling(tiny_tokenizer(), preferences, RewardConfig(**settings), 2)  # type: ignore[arg-type]


def reward_model(seed: int = 0) -> RewardModel:
    return RewardModel(tiny_model(seed)).double().eval()


def test_a_ranking_is_one_example() -> None:
    model, rewarding = reward_model(), task()
    batch = rewarding.batch(np.array([0, 1, 2]))
    assert (batch.num_targets, batch.size) == (3, (9, 6))
    loss, count = rewarding.loss(model, batch)
    assert count == 3
    each = []
    for ranking in RANKINGS:
        own = torch.tensor([rewards_of(model, ranking.texts())], dtype=torch.float64)
        each.append(bradley_terry(own, torch.tensor([ranking.ranks])).item())
    assert loss.item() == pytest.approx(sum(each), abs=1e-12)
    alone = [rewarding.loss(model, rewarding.batch(np.array([i])))[0].item() for i in range(3)]
    assert alone == pytest.approx(each, abs=1e-12)
    assert rewarding.validate(model) == pytest.approx((each[0] + each[1]) / 2, abs=1e-12)


def test_right_pairs_are_counted_and_equal_rewards_are_half_right() -> None:
    ranks = torch.tensor([[0, 1, 1], [1, 0, -1]])
    rewards = torch.tensor([[2.0, 1.0, 3.0], [5.0, 5.0, 9.0]])
    assert right_pairs(rewards, ranks) == (1.5, 3)
    rewarding = task()
    rewarding.validate(reward_model())
    assert 0 <= rewarding.held_out_measures()["accuracy"] <= 1
    rewarding.loss(reward_model(), rewarding.batch(np.array([0])))
    assert rewarding.measures()["accuracy"] in (0, 1 / 3, 2 / 3, 1)


def test_a_frozen_body_is_read_once() -> None:
    model, plain, quick = reward_model(), task(), task()
    for parameter in model.body.parameters():
        parameter.requires_grad_(False)
    quick.read_once(model)
    chosen = np.array([2, 0])
    batch = quick.batch(chosen)
    assert batch.size is None
    results = []
    for each in (plain, quick):
        loss, _ = each.loss(model, each.batch(chosen))
        (gradient,) = torch.autograd.grad(loss, model.head.weight)
        results.append((loss, gradient, each.validate(model)))
    torch.testing.assert_close(results[0][:2], results[1][:2], rtol=1e-12, atol=1e-12)
    assert results[0][2] == pytest.approx(results[1][2], abs=1e-12)


@pytest.mark.parametrize("loss", ["bradley-terry", "plackett-luce"])
def test_differences_of_rewards_are_recovered(loss: str) -> None:
    """Who wins as often as rewards of log 1, log 2 and log 4 say, gets these but for a constant."""
    prompt, texts = (SOS_ID, 4), ((5, EOS_ID), (6, EOS_ID), (7, EOS_ID))
    counts = {(1, 0): 2, (0, 1): 1, (2, 0): 4, (0, 2): 1, (2, 1): 2, (1, 2): 1}
    wins = [
        Ranking(prompt, (texts[winner], texts[loser]), (0, 1))
        for (winner, loser), count in counts.items()
        for _ in range(count)
    ]
    rewarding, model = task(wins, loss=loss), reward_model()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=150, tolerance_grad=1e-10)
    batch = rewarding.batch(np.arange(len(wins)))

    def closure() -> float:
        optimizer.zero_grad()
        total, _ = rewarding.loss(model, batch)
        total.backward()
        return total.item()

    optimizer.step(closure)
    low, middle, high = rewards_of(model, [(*prompt, *text) for text in texts])
    assert middle - low == pytest.approx(math.log(2), abs=1e-3)
    assert high - middle == pytest.approx(math.log(2), abs=1e-3)
