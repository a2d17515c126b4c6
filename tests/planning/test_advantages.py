"""Returns and advantages of a trajectory: the worked example, definitions, identities."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tinylm.cli import app
from tinylm.errors import ConfigError
from tinylm.planning.advantages import (
    Trajectory,
    advantages_of,
    every_estimator,
    generalised_advantages,
    lambda_returns,
    monte_carlo_returns,
    n_step_returns,
)

WORKED = Trajectory((3.0, -1.0, 2.0), (4.0, 1.0, 0.5, 0.0), 0.95)
_NUMBER = st.floats(-10, 10)


@st.composite
def trajectories(draw: Any) -> Trajectory:
    steps, truncated = draw(st.integers(1, 8)), draw(st.booleans())
    rewards = draw(st.lists(_NUMBER, min_size=steps, max_size=steps))
    values = draw(st.lists(_NUMBER, min_size=steps, max_size=steps))
    after = draw(_NUMBER) if truncated else 0.0
    return Trajectory(tuple(rewards), (*values, after), draw(st.floats(0, 1)), truncated)


def test_the_worked_example() -> None:
    assert advantages_of(WORKED, monte_carlo_returns(WORKED)) == pytest.approx([-0.145, -0.1, 1.5])
    two = advantages_of(WORKED, n_step_returns(WORKED, 2))
    assert two == pytest.approx([-1.49875, -0.1, 1.5])
    one = [3 + 0.95 * 1 - 4, -1 + 0.95 * 0.5 - 1, 2 - 0.5]
    assert advantages_of(WORKED, n_step_returns(WORKED, 1)) == pytest.approx(one)
    gae = one[0] + 0.95 * 0.9 * (one[1] + 0.95 * 0.9 * one[2])
    assert generalised_advantages(WORKED, 0.9)[0] == pytest.approx(gae)


@given(trajectories(), st.floats(0, 1))
def test_estimators_are_what_they_are_defined_as(made: Trajectory, lambda_: float) -> None:
    steps, gamma = len(made), made.gamma
    n_step = [n_step_returns(made, n) for n in range(1, steps + 1)]
    lambdas = lambda_returns(made, lambda_)
    for t in range(steps):
        left = steps - t
        # the forward view: a mean of the n-step returns, what is left of the weight on the last
        weights = [(1 - lambda_) * lambda_ ** (n - 1) for n in range(1, left)]
        weights.append(lambda_ ** (left - 1))
        mean = sum(w * n_step[n][t] for n, w in enumerate(weights))
        assert lambdas[t] == pytest.approx(mean, rel=1e-9, abs=1e-9)
        whole = sum(gamma**k * made.rewards[t + k] for k in range(left))
        whole += gamma**left * made.values[-1]
        assert monte_carlo_returns(made)[t] == pytest.approx(whole, rel=1e-9, abs=1e-9)
    assert generalised_advantages(made, lambda_) == pytest.approx(
        advantages_of(made, lambdas), rel=1e-9, abs=1e-9
    )
    assert lambda_returns(made, 0.0) == pytest.approx(n_step[0])
    assert lambda_returns(made, 1.0) == pytest.approx(monte_carlo_returns(made), abs=1e-9)


def test_an_end_and_a_truncation_differ_by_what_would_have_come() -> None:
    cut = Trajectory(WORKED.rewards, (*WORKED.values[:-1], 2.0), 0.95, truncated=True)
    for lambda_ in (0.0, 0.9, 1.0):
        ended, truncated = (generalised_advantages(each, lambda_) for each in (WORKED, cut))
        gained = [b - a for a, b in zip(ended, truncated, strict=True)]
        assert gained == pytest.approx([0.95 * 2 * (0.95 * lambda_) ** k for k in (2, 1, 0)])
    assert monte_carlo_returns(cut)[2] == pytest.approx(2 + 0.95 * 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": ()}, "one reward at least"),
        ({"values": (1.0, 2.0)}, "3 rewards have 4 values"),
        ({"values": (4.0, 1.0, 0.5, 0.1)}, "the value after the end is 0, and 0.1 is given"),
        ({"gamma": 1.5}, "gamma = 1.5"),
        ({"rewards": (1.0, float("nan"), 2.0)}, "finite"),
    ],
)
def test_what_is_no_trajectory_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Trajectory(**{**vars(WORKED), **change})


def test_what_is_no_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="lambda = -1"):
        every_estimator(WORKED, -1)
    with pytest.raises(ConfigError, match="one step at least"):
        n_step_returns(WORKED, 0)


def _run(*words: str) -> Any:
    return CliRunner().invoke(app, ["plan", "advantage", *words])


def test_the_command_prints_every_estimator() -> None:
    given_words = ("--rewards", "3,-1,2", "--values", "4.0,1.0,0.5,0", "--gamma", "0.95")
    result = _run(*given_words)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    start = lines.index("advantages")
    assert lines[start + 1].split("  ")[-1].strip() == "GAE"
    assert lines[start + 2].split()[:5] == ["0", "3", "4", "-0.145", "-0.05"]
    assert lines[start + 2].split()[5] == "-1.49875"
    kept = json.loads(_run(*given_words, "--json").output)
    assert kept["advantages"]["2-step TD"][0] == pytest.approx(-1.49875)
    assert kept["returns"].keys() == {"Monte Carlo", "1-step TD", "2-step TD", "TD(lambda)"}
    cut = json.loads(_run(*given_words[:3], "4,1,0.5,2", "--truncated", "--json").output)
    assert cut["returns"]["Monte Carlo"][2] == 4


def test_the_command_refuses_in_a_line() -> None:
    result = _run("--rewards", "3;1", "--values", "1,0")
    assert "--rewards" in str(result.exception or result.output)


def test_sums_that_are_infinite_are_refused() -> None:
    with pytest.raises(ConfigError, match="a sum of them is infinite"):
        every_estimator(Trajectory((1e308, 1e308), (1e308, 1.0, 0.0), 1.0), 0.95)
