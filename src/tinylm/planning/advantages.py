"""What a step of a trajectory was worth: returns and advantages, by every estimator.

A trajectory has rewards r_0 … r_(T-1), and values V_0 … V_T of its states. The advantage of a step
is its return less V. From Monte Carlo to one-step temporal difference the variance falls and the
bias of the values comes in (Sutton and Barto 2018, chapters 7 and 12; Schulman et al. 2016):

    Monte Carlo      G_t = r_t + gamma G_(t+1)
    n-step TD        G_t = r_t + … + gamma^(n-1) r_(t+n-1) + gamma^n V_(t+n)
    TD(lambda)       G_t = r_t + gamma ((1 - lambda) V_(t+1) + lambda G_(t+1))
    GAE              A_t = d_t + gamma lambda A_(t+1),  d_t = r_t + gamma V_(t+1) - V_t

After an end nothing more is earned, so that V_T = 0. After a truncation more would have been: V_T
stands for it in every estimator, the return of Monte Carlo too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tinylm.errors import ConfigError


@dataclass(frozen=True)
class Trajectory:
    """Rewards and values of one trajectory.

    Raises:
        ConfigError: if they do not go together.
    """

    rewards: tuple[float, ...]
    """Of each step."""
    values: tuple[float, ...]
    """Of the state before each step, and of the one after the last."""
    gamma: float
    """What a reward is worth one step later."""
    truncated: bool = False
    """Whether it was cut off; else its last state is terminal, with the value 0."""

    def __post_init__(self) -> None:
        steps = len(self.rewards)
        if not steps:
            raise ConfigError("a trajectory has one reward at least")
        if not all(map(math.isfinite, (*self.rewards, *self.values))):
            raise ConfigError("rewards and values are finite numbers")
        if len(self.values) != steps + 1:
            raise ConfigError(
                f"{steps} rewards have {steps + 1} values, that of the state after the last step "
                f"too, and {len(self.values)} are given"
            )
        if not 0 <= self.gamma <= 1:
            raise ConfigError(f"gamma = {self.gamma:g}: give a number from 0 to 1")
        if not self.truncated and self.values[-1] != 0:
            raise ConfigError(
                f"the value after the end is 0, and {self.values[-1]:g} is given: give 0, or say "
                "that the trajectory was truncated"
            )

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.rewards)


def monte_carlo_returns(trajectory: Trajectory) -> list[float]:
    """Return the discounted sum of the rewards from each step on."""
    return n_step_returns(trajectory, len(trajectory))


def n_step_returns(trajectory: Trajectory, n: int) -> list[float]:
    """Return the rewards of ``n`` steps from each on, and the value of where they lead.

    Where fewer steps are left, those.

    Raises:
        ConfigError: if ``n`` is not positive.
    """
    if n < 1:
        raise ConfigError(f"n = {n}: a return has one step at least")
    gamma, steps = trajectory.gamma, len(trajectory)
    returns = []
    for t in range(steps):
        last = min(t + n, steps)
        earned = sum(gamma ** (k - t) * trajectory.rewards[k] for k in range(t, last))
        returns.append(earned + gamma ** (last - t) * trajectory.values[last])
    return returns


def lambda_returns(trajectory: Trajectory, lambda_: float) -> list[float]:
    """Return the mean of the n-step returns, n weighted by (1 - lambda) lambda^(n-1)."""
    refuse_lambda(lambda_)
    following = trajectory.values[-1]
    returns = []
    for t in reversed(range(len(trajectory))):
        mixed = (1 - lambda_) * trajectory.values[t + 1] + lambda_ * following
        following = trajectory.rewards[t] + trajectory.gamma * mixed
        returns.append(following)
    return returns[::-1]


def generalised_advantages(trajectory: Trajectory, lambda_: float) -> list[float]:
    """Return GAE, the discounted sum of the errors of one-step predictions (equation 16)."""
    refuse_lambda(lambda_)
    gamma, following = trajectory.gamma, 0.0
    advantages = []
    for t in reversed(range(len(trajectory))):
        error = trajectory.rewards[t] + gamma * trajectory.values[t + 1] - trajectory.values[t]
        following = error + gamma * lambda_ * following
        advantages.append(following)
    return advantages[::-1]


def advantages_of(trajectory: Trajectory, returns: Sequence[float]) -> list[float]:
    """Return by how much each step's return exceeds its value."""
    return [g - v for g, v in zip(returns, trajectory.values, strict=False)]


def refuse_lambda(lambda_: float) -> None:
    """Refuse what is no weight.

    Raises:
        ConfigError: if it is not from 0 to 1.
    """
    if not 0 <= lambda_ <= 1:
        raise ConfigError(f"lambda = {lambda_:g}: give a number from 0 to 1")


_MOST_STEPS_SHOWN = 4


def every_estimator(trajectory: Trajectory, lambda_: float) -> dict[str, dict[str, list[float]]]:
    """Return ``returns`` and ``advantages``: name of an estimator -> a number for every step.

    The n-step returns are those of n below the trajectory's length, up to 4.

    Raises:
        ConfigError: for numbers so large that a sum of them is infinite.
    """
    returns = {"Monte Carlo": monte_carlo_returns(trajectory)}
    for n in range(1, min(len(trajectory) - 1, _MOST_STEPS_SHOWN) + 1):
        returns[f"{n}-step TD"] = n_step_returns(trajectory, n)
    returns["TD(lambda)"] = lambda_returns(trajectory, lambda_)
    advantages = {name: advantages_of(trajectory, made) for name, made in returns.items()}
    del advantages["TD(lambda)"]
    advantages["GAE"] = generalised_advantages(trajectory, lambda_)
    every = (*returns.values(), *advantages.values())
    if not all(math.isfinite(number) for numbers in every for number in numbers):
        raise ConfigError("the rewards and values are so large that a sum of them is infinite")
    return {"returns": returns, "advantages": advantages}
