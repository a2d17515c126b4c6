"""Failures and checkpoints, held to simulated runs and to the best interval by search."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from tinylm.planning.cluster.reliability import CARD_HOURS, Reliability, daly, slowdown, young


def simulated(
    work: float, interval: float, checkpoint: float, restart: float, between: float, seed: int
) -> float:
    """Return the time of a run whose failures come at random, interval by interval."""
    random = np.random.default_rng(seed)
    clock, done = 0.0, 0.0
    failure = random.exponential(between)
    while done < work:
        end = clock + interval + checkpoint
        if failure >= end:
            clock, done = end, done + interval
            continue
        clock = failure
        while True:  # a restart can fail too
            failure = clock + random.exponential(between)
            if failure >= clock + restart:
                clock += restart
                break
            clock = failure
    return clock / done


@pytest.mark.parametrize(
    ("interval", "checkpoint", "restart", "between"),
    [(100.0, 5.0, 20.0, 400.0), (30.0, 10.0, 1.0, 50.0), (500.0, 20.0, 100.0, 2000.0)],
)
def test_a_simulated_run_takes_the_expected_time(
    interval: float, checkpoint: float, restart: float, between: float
) -> None:
    runs = [
        simulated(200 * interval, interval, checkpoint, restart, between, seed)
        for seed in range(60)
    ]
    expected = slowdown(interval, checkpoint, restart, between)
    error = np.std(runs) / math.sqrt(len(runs))
    assert abs(np.mean(runs) - expected) < 4 * error
    assert error < 0.02 * expected


@given(st.floats(1e-4, 0.45), st.floats(0, 3))
def test_dalys_interval_is_the_best_one(share: float, restart: float) -> None:
    checkpoint, between = share, 1.0

    def expected(interval: float) -> float:
        return slowdown(interval, checkpoint, restart, between)

    best = minimize_scalar(expected, bounds=(1e-4, 5), method="bounded")
    assert expected(daly(checkpoint, between)) <= best.fun * 1.002


def test_young_is_the_first_order_of_it() -> None:
    assert young(50, 10_000) == 1000
    assert daly(1e-6, 1.0) == pytest.approx(young(1e-6, 1.0), rel=2e-3)
    worked = math.sqrt(0.2) * (1 + math.sqrt(0.05) / 3 + 0.05 / 9) - 0.1
    assert daly(0.1, 1.0) == pytest.approx(worked, rel=1e-12)
    assert daly(3.0, 1.0) == 1.0  # a checkpoint longer than what it saves


def test_many_cards_fail_more_often() -> None:
    """Llama 3: 419 failures of 16,384 cards in 54 days, one in about three hours."""
    run = Reliability(CARD_HOURS * 3600 / 16_384, 60.0, 600.0)
    assert run.between == pytest.approx(3.09 * 3600, rel=1e-3)
    assert run.failures(54 * 86_400) == pytest.approx(419)
    alone = Reliability(CARD_HOURS * 3600, 60.0, 600.0)
    assert alone.interval == pytest.approx(run.interval * 128, rel=0.1)  # root of 16,384
    assert alone.useful > 0.999 > run.useful > 0.85


def test_where_nothing_would_end() -> None:
    assert slowdown(1.0, 1e6, 0.0, 1.0) == math.inf
    assert Reliability(1.0, 1e6, 0.0).useful == 0
