"""Estimates of KL(policy || start) from samples of the policy (Schulman 2020).

Of the log ratio l = log policy(y) - log start(y) of a response, or of a token:

    k1 = l                       right on average; large variance, of either sign
    k2 = l^2 / 2                 biased; small variance
    k3 = exp(-l) - 1 + l         right on average; never negative

A good value is not a good loss. With y drawn from the policy, the gradient of the mean of each is

    k1                           0: no gradient at all
    k2                           that of KL(policy || start), the right one
    k3                           that of KL(start || policy), the other one
    w k3, w = policy / sampler   that of KL(policy || start), and the right value, too

where w is a ratio with a gradient, 1 in value on policy. Summed over tokens, each as a loss holds
the texts so far fixed: that a token now changes what comes later is not in its gradient. Where k1
is taken from the reward, without a gradient, it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


def k1(log_ratio: Tensor) -> Tensor:
    """Return the log ratio, policy over start; any shape."""
    return log_ratio


def k2(log_ratio: Tensor) -> Tensor:
    """Return half of its square."""
    return 0.5 * log_ratio.square()


def k3(log_ratio: Tensor) -> Tensor:
    """Return ``start / policy - 1 - log(start / policy)``."""
    return torch.expm1(-log_ratio) + log_ratio


@dataclass(frozen=True)
class Estimator:
    """An estimate of the divergence, as a value and as a loss."""

    value: Callable[[Tensor], Tensor]
    """From log ratios, policy over start."""
    weighted: bool = False
    """Whether a loss is multiplied by the ratio of the policy to what the samples were drawn from,
    with its gradient."""

    def loss(self, log_ratio: Tensor, weight: Tensor) -> Tensor:
        """Return the estimate as a loss.

        Args:
            log_ratio: policy over start, with a gradient, any shape.
            weight: policy over what the samples were drawn from, with a gradient; same shape.
        """
        value = self.value(log_ratio)
        return weight * value if self.weighted else value


ESTIMATORS: Mapping[str, Estimator] = {
    "k1": Estimator(k1),
    "k2": Estimator(k2),
    "k3": Estimator(k3),
    "weighted-k3": Estimator(k3, weighted=True),
}


@dataclass(frozen=True)
class Spread:
    """What an estimate is on average, and how far one sample is from that."""

    mean: float
    variance: float
    samples: int

    @property
    def standard_error(self) -> float:
        """Of the mean."""
        return float((self.variance / self.samples) ** 0.5)


def spreads(log_ratio: Tensor) -> dict[str, Spread]:
    """Measure k1, k2 and k3 on samples of the policy.

    Args:
        log_ratio: of each response, (responses,), two at least.
    """
    made = {name: ESTIMATORS[name].value(log_ratio.double()) for name in ("k1", "k2", "k3")}
    return {
        name: Spread(float(values.mean()), float(values.var()), len(values))
        for name, values in made.items()
    }
