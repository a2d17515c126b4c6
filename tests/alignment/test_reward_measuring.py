"""Measures of a reward model: beside SciPy, by worked numbers, and on rewards that are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tinylm.alignment.reward_measuring import (
    Judged,
    accuracy,
    agreement,
    calibration,
    kendall,
    length_bias,
    measured,
    spearman,
)
from tinylm.data.preferences import Ranking

VALUES = st.lists(st.integers(0, 6).map(float), min_size=2, max_size=30)


def judged(rewards: list[float], ranks: list[int], lengths: list[int] | None = None) -> Judged:
    lengths = lengths or [1 + i for i in range(len(ranks))]
    responses = tuple((4 + i,) * length for i, length in enumerate(lengths))
    return Judged(Ranking((2,), responses, tuple(ranks)), rewards)


@given(data=st.data())
def test_rank_correlations_are_scipys(data: st.DataObject) -> None:
    first = data.draw(VALUES)
    second = data.draw(st.lists(st.integers(0, 6), min_size=len(first), max_size=len(first)))
    constant = len(set(first)) == 1 or len(set(second)) == 1
    tau = kendall(first, second)
    assert (tau is None) == constant
    assert math.isnan(spearman(first, second)) == constant
    if not constant:
        assert tau == pytest.approx(stats.kendalltau(first, second).statistic)
        assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_accuracy_counts_pairs_and_its_interval_rankings() -> None:
    gaps = [np.array([1.0, 2.0, -1.0]), np.array([0.0]), np.array([3.0, 1.0])]
    share = accuracy(gaps)
    assert share.value == pytest.approx(4.5 / 6)
    copies = accuracy([np.tile(each, 50) for each in gaps])
    assert copies.ends == pytest.approx(share.ends)  # more pairs of the same rankings tell nothing


def drawn(count: int, scale: float) -> list[np.ndarray]:
    """Pairs that are won as their true gaps say, with rewards ``scale`` times as far apart."""
    generator = np.random.default_rng(0)
    true = generator.normal(0, 1.5, count)
    won = generator.random(count) < 1 / (1 + np.exp(-true))
    return [np.array([scale * (gap if w else -gap)]) for gap, w in zip(true, won, strict=True)]


def test_calibrated_rewards_are_told_from_others() -> None:
    right = calibration(drawn(900, 1.0))
    assert right["error"][0] < 2 * right["by_chance"]
    assert sum(each["pairs"] for each in right["bins"]) == 900
    for each in right["bins"]:
        error = 3 * (each["expected"] * (1 - each["expected"]) / each["pairs"]) ** 0.5
        assert each["won"] == pytest.approx(each["expected"], abs=error)
    for scale in (0.2, 4.0):
        wrong = calibration(drawn(900, scale))
        assert wrong["error"][1] > 3 * wrong["by_chance"]
        assert wrong["error"][1] < wrong["error"][0] < wrong["error"][2]


def test_a_worked_calibration_error() -> None:
    """Three pairs at sigmoid(0) = 0.5 of which half count as won, one at 0.88 that is lost."""
    result = calibration([np.array([0.0, 0.0]), np.array([0.0, -2.0])])
    assert [each["pairs"] for each in result["bins"]] == [3, 1]
    assert result["error"][0] == pytest.approx((3 * 0 + 1 / (1 + math.exp(-2))) / 4)


def test_agreement_is_with_the_true_reward_not_with_the_ranking() -> None:
    ranking = judged([0.1, 0.9, 0.5], [0, 1, 2]).ranking
    known = [Judged(ranking, [0.1, 0.9, 0.5], [1.0, 3.0, 2.0])] * 3
    result = agreement(known)
    assert result["accuracy"][0] == 1
    assert result["pairs"] == 9
    assert result["spearman"][0] == pytest.approx(1)
    assert result["kendall_within"][0] == pytest.approx(1)
    assert measured(known)["accuracy"][0] == pytest.approx(1 / 3)
    ties = agreement([Judged(ranking, [0.1, 0.9, 0.5], [1.0, 1.0, 1.0])] * 2)
    assert ties["accuracy"] == [None] * 3
    assert ties["kendall_within"] == [None] * 3


def test_a_reward_of_length_alone_is_found_out() -> None:
    rankings = [
        judged([5.0, 2.0, 9.0], [0, 1, 2], [5, 2, 9]),
        judged([3.0, 7.0, 1.0], [2, 0, 1], [3, 7, 1]),
    ]
    result = length_bias(rankings)
    assert result["spearman"][0] == pytest.approx(1)
    assert result["true_spearman"] is None
    known = [replace(each, true=[-reward for reward in each.rewards]) for each in rankings]
    assert length_bias(known)["true_spearman"][0] == pytest.approx(-1)
    longer, shorter = result["longer_is_better"], result["shorter_is_better"]
    assert (longer["pairs"], longer["accuracy"][0]) == (3, 1)
    assert (shorter["pairs"], shorter["accuracy"][0]) == (3, 0)


def test_measures_are_json_and_seeded() -> None:
    rankings = [judged([0.3 * i, 0.5, 0.1], [0, 1, 1]) for i in range(6)]
    result = measured(rankings, 3)
    assert result == measured(rankings, 3)
    assert (result["rankings"], result["pairs"], result["true"]) == (6, 12, None)
    assert measured(rankings[:1])["accuracy"][1:] == [None, None]  # one ranking has no interval
