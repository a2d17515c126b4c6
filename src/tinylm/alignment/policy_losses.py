"""Losses of policy gradients, token by token: what is summed is the objective with its sign turned.

The objective is E_policy[reward - beta KL(policy || start)], its expectation under the policy. With
responses drawn from the policy its gradient is the mean of advantage times the gradient of the
log-probability (Williams 1992), whatever is subtracted from the reward that does not depend on the
response. Every function maps numbers of tokens, (rows, seq), to numbers of tokens; what is not a
real token is left out by the weights of ``token_weights``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


def policy_gradient_loss(log_probabilities: Tensor, advantages: Tensor) -> Tensor:
    """Return the loss whose gradient is REINFORCE's: minus advantage times log-probability."""
    return -advantages * log_probabilities


def clipped_loss(ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """Return PPO's clipped surrogate (Schulman et al. 2017, equation 7), with its sign turned.

    Args:
        ratio: policy over the one that the responses were drawn from.
        advantages: of the tokens.
        low: the ratio counts down to 1 - low.
        high: and up to 1 + high.
    """
    clipped = ratio.clamp(1 - low, 1 + high)
    return torch.maximum(-advantages * ratio, -advantages * clipped)


def clipped_value_loss(
    values: Tensor, before: Tensor, returns: Tensor, clip: float | None
) -> Tensor:
    """Return half of the squared error, the larger of a value's and of the clipped value's.

    Args:
        values: predicted now.
        before: predicted when the responses were drawn.
        returns: what was to be predicted.
        clip: how far a value may move from what it was; None: any.
    """
    losses = (values - returns).square()
    if clip is not None:
        near = before + (values - before).clamp(-clip, clip)
        losses = torch.maximum(losses, (near - returns).square())
    return 0.5 * losses


# Importance weights: how much likelier the policy makes what an older one drew.


def of_tokens(log_ratio: Tensor, mask: Tensor) -> Tensor:
    """Return the ratio of each token, (rows, seq): it leaves out how likely the text before was.

    Args:
        log_ratio: policy over the one that drew, (rows, seq).
        mask: (rows, seq), bool, True at real tokens.
    """
    return torch.where(mask, log_ratio, 0.0).exp()


def of_sequences(log_ratio: Tensor, mask: Tensor) -> Tensor:
    """Return the ratio of each whole response, the same at all of its tokens: unbiased."""
    whole = torch.where(mask, log_ratio, 0.0).sum(1, keepdim=True)
    return whole.exp().expand_as(log_ratio)


def of_sequences_per_token(log_ratio: Tensor, mask: Tensor) -> Tensor:
    """Return the geometric mean of a response's ratios (Zheng et al. 2025, equation 7)."""
    counts = mask.sum(1, keepdim=True).clamp(min=1)
    whole = torch.where(mask, log_ratio, 0.0).sum(1, keepdim=True) / counts
    return whole.exp().expand_as(log_ratio)


IMPORTANCE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "token": of_tokens,
    "sequence": of_sequences,
    "sequence-mean": of_sequences_per_token,
}


def effective_sample_size(log_weights: Tensor) -> float:
    """Return how many equally weighted responses tell as much, as a share: (sum w)^2 / (n sum w^2).

    Args:
        log_weights: log w of each response, (responses,); of any size, none overflows.
    """
    log_weights = log_weights.double()
    sums = 2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)
    return float(sums.exp() / len(log_weights))


# Over what a loss is a mean.


@dataclass(frozen=True)
class Normalisation:
    """What the tokens of a response are divided by, and what the responses of a step are."""

    weights: Callable[[Tensor, int, int], Tensor]
    """From a mask, (rows, seq), rows of a group, and most tokens of a response: of each token, in
    float64."""
    by_tokens: bool = False
    """Whether a step is divided by its tokens, in place of its responses."""


def _sequence(mask: Tensor, group: int, most: int) -> Tensor:
    return mask.double() / mask.sum(1, keepdim=True).clamp(min=1)


def _group(mask: Tensor, group: int, most: int) -> Tensor:
    tokens = mask.sum(1).view(-1, group).sum(1, keepdim=True).clamp(min=1)  # (groups, 1)
    return mask.double() * (group / tokens.double()).repeat(1, group).view(-1, 1)


def _constant(mask: Tensor, group: int, most: int) -> Tensor:
    return mask.double() / most


def _whole(mask: Tensor, group: int, most: int) -> Tensor:
    return mask.double()


NORMALISATIONS: Mapping[str, Normalisation] = {
    "sequence": Normalisation(_sequence),
    "group": Normalisation(_group),
    "constant": Normalisation(_constant),
    "tokens": Normalisation(_whole, by_tokens=True),
    "sum": Normalisation(_whole),
}
"""``sequence``: the mean of each response (Shao et al. 2024). ``group``: the mean over the tokens
of a prompt's responses. ``constant``: their sum over the longest length that there may be (Liu et
al. 2025). ``tokens``: the mean over all tokens of a step (Yu et al. 2025). ``sum``: the sum over a
response, which is the gradient itself."""


# Baselines: what is subtracted from what a response earned.


def group_mean(earned: Tensor, group: int) -> Tensor:
    """Return the mean of each group, its own response counted, (rows,).

    The response's own share of it shortens the gradient by (group - 1) / group.

    Args:
        earned: by each response, (rows,), groups side by side.
        group: responses of one.
    """
    return earned.view(-1, group).mean(1, keepdim=True).expand(-1, group).reshape(-1)


def leave_one_out(earned: Tensor, group: int) -> Tensor:
    """Return the mean of the others of each group, (rows,) (Kool et al. 2019): no bias."""
    return (group_mean(earned, group) * group - earned) / (group - 1)


def group_deviation(earned: Tensor, group: int, bessel: bool) -> Tensor:
    """Return the standard deviation of each group, (rows,).

    Args:
        earned: by each response, (rows,), groups side by side.
        group: responses of one, two at least.
        bessel: divide the squares by group - 1, in place of group.
    """
    spread = earned.view(-1, group).std(1, correction=int(bessel), keepdim=True)
    return spread.expand(-1, group).reshape(-1)


def adapted_beta(beta: float, kl: float, target: float, gain: float) -> float:
    """Return the next weight of the divergence, so that it comes near a target.

    Ziegler et al. 2019, section 2.2: a proportional controller of its logarithm, whose error is
    clipped to 20 %.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return beta * (1 + gain * error)
