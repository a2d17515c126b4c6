"""The most reward that can be had at each KL divergence from the start.

The policy that maximises E[r] - beta KL(pi || start) is pi*(y) = start(y) exp(r(y) / beta) / Z. Its
reward and its KL depend on the start through the distribution of the reward alone::

    log Z = log E_start[exp(r / beta)]
    E_pi*[r] = E_start[r exp(r / beta)] / Z
    KL(pi* || start) = E_pi*[r] / beta - log Z

So they are exact where that distribution is known, and estimated where it is sampled. No policy
lies above the curve that beta draws (Korbak et al. 2022, section 3). To earn nothing but the
highest reward, which the start earns with probability p, costs -log p nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Point:
    """A policy on the frontier."""

    beta: float
    kl: float
    """Nats a response."""
    reward: float


def frontier(
    rewards: Sequence[float] | npt.NDArray[np.float64],
    betas: Sequence[float],
    probabilities: Sequence[float] | npt.NDArray[np.float64] | None = None,
) -> list[Point]:
    """Return the optimum at each beta.

    Args:
        rewards: of responses of the start.
        betas: above 0.
        probabilities: of these responses; None: they were drawn, so that all count alike.
    """
    values = np.asarray(rewards, dtype=np.float64)
    weights = np.full(len(values), 1 / len(values))
    if probabilities is not None:
        weights = np.asarray(probabilities, dtype=np.float64)
        weights = weights / weights.sum()
    with np.errstate(divide="ignore"):
        logs = np.log(weights)  # a response that is never drawn has -inf
    points = []
    for beta in betas:
        tilted = logs + values / beta
        highest = tilted.max()
        shares = np.exp(tilted - highest)
        log_z = highest + np.log(shares.sum())
        reward = float((shares * values).sum() / shares.sum())
        points.append(Point(beta, max(0.0, reward / beta - float(log_z)), reward))
    return points


def averaged(by_prompt: Sequence[Sequence[float]], betas: Sequence[float]) -> list[Point]:
    """Return the optimum over several prompts: a policy answers each, and their mean counts.

    Args:
        by_prompt: rewards of responses that the start drew to each prompt.
        betas: above 0.
    """
    curves = [frontier(rewards, betas) for rewards in by_prompt]
    return [
        Point(
            points[0].beta,
            sum(point.kl for point in points) / len(points),
            sum(point.reward for point in points) / len(points),
        )
        for points in zip(*curves, strict=True)
    ]


def betas_of(rewards: Sequence[float], count: int = 60) -> list[float]:
    """Return values of beta that draw the whole frontier, from near the start to near its end."""
    spread = max(rewards) - min(rewards)
    if spread == 0:
        return [1.0]
    return [float(beta) for beta in spread * np.geomspace(20.0, 0.02, count)]
