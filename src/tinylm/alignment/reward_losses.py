"""What a reward model is trained by: the likelihood of rankings, given the rewards of responses.

Every function takes the rewards of several rankings, (rankings, responses), and the ranks, of the
same shape: 0 for the best, the same number for a tie, ``ABSENT`` where a ranking has fewer
responses. It returns the loss of each ranking, (rankings,): a mean over the comparisons that it
holds, so that a ranking of many responses counts no more than a pair does. For all pairs of K
responses without a tie that is the 1 / (K choose 2) of InstructGPT (Ouyang et al. 2022, equation
1); the pairs of a ranking are correlated, and as examples of their own they are overfitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from tinylm.config.reward import RewardConfig

ABSENT = -1
"""Rank where a ranking has no response."""
RewardLoss = Callable[[Tensor, Tensor], Tensor]
"""From rewards and ranks, (rankings, responses) each, to the loss of each ranking."""


def bradley_terry(rewards: Tensor, ranks: Tensor, margin: float = 0.0) -> Tensor:
    """Return ``-log sigmoid(r_i - r_j - m)`` over the pairs whose first response is better.

    Bradley and Terry 1952; a tie is no pair.

    Args:
        rewards: (rankings, responses).
        ranks: (rankings, responses).
        margin: m is that times the difference of the ranks, by which the rewards shall differ at
            least (Touvron et al. 2023, equation 2).
    """
    gaps, better, _ = _pairs(rewards, ranks, margin)
    return _mean(-logsigmoid(gaps), better)


def rao_kupper(rewards: Tensor, ranks: Tensor, tie_share: float, margin: float = 0.0) -> Tensor:
    """Return the loss of pairs, ties among them, by the model of Rao and Kupper 1967.

    The better wins with probability ``sigmoid(r_i - r_j - eta)``; what is left to neither is a tie.

    Args:
        rewards: (rankings, responses).
        ranks: (rankings, responses).
        tie_share: probability of a tie of two responses with the same reward, in (0, 1); eta is
            ``log((1 + share) / (1 - share))``.
        margin: as in ``bradley_terry``.
    """
    eta = math.log((1 + tie_share) / (1 - tie_share))
    gaps, better, tied = _pairs(rewards, ranks, margin)
    wins = -logsigmoid(gaps - eta)
    ties = -logsigmoid(gaps - eta) - logsigmoid(-gaps - eta) - math.log(math.expm1(2 * eta))
    return _mean(torch.where(tied, ties, wins), better | tied)


def davidson(rewards: Tensor, ranks: Tensor, tie_share: float, margin: float = 0.0) -> Tensor:
    """Return the loss of pairs, ties among them, by the model of Davidson 1970.

    A tie is as likely as nu times the geometric mean of what either wins with.

    Args:
        rewards: (rankings, responses).
        ranks: (rankings, responses).
        tie_share: probability of a tie of two responses with the same reward, in (0, 1); nu is
            ``2 share / (1 - share)``.
        margin: as in ``bradley_terry``.
    """
    log_nu = math.log(2 * tie_share / (1 - tie_share))
    gaps, better, tied = _pairs(rewards, ranks, margin)
    tie = torch.full_like(gaps, log_nu)
    whole = torch.stack([gaps / 2, -gaps / 2, tie]).logsumexp(0)
    return _mean(whole - torch.where(tied, tie, gaps / 2), better | tied)


def plackett_luce(rewards: Tensor, ranks: Tensor) -> Tensor:
    """Return the loss of choosing the best, then the best of what is left, and so on.

    ``-log(exp r_i / (exp r_i + sum of exp r_j over the worse))`` over the responses that have a
    worse one beside them (Luce 1959, Plackett 1975). Tied ones do not compete with each other.
    """
    there = ranks != ABSENT
    worse = (there[:, :, None] & there[:, None, :]) & (ranks[:, :, None] < ranks[:, None, :])
    chosen = worse.any(2)  # (rankings, responses)
    rivals = rewards[:, None, :].masked_fill(~worse, -torch.inf)  # (rankings, chosen, rivals)
    rivals = rivals.masked_fill(~chosen[:, :, None], 0.0).logsumexp(2)
    return _mean(softplus(rivals - rewards), chosen)


def centring(rewards: Tensor, ranks: Tensor) -> Tensor:
    """Return ``(r_i + r_j)^2`` over the pairs that are no tie (Eisenstein et al. 2023).

    Added to a loss it holds the mean of the rewards near 0 while they are trained.
    """
    _, better, _ = _pairs(rewards, ranks, 0.0)
    return _mean((rewards[:, :, None] + rewards[:, None, :]) ** 2, better)


def reward_loss(settings: RewardConfig) -> RewardLoss:
    """Return the loss that settings ask for."""
    share, margin = settings.tie_share, settings.margin

    def likelihood(rewards: Tensor, ranks: Tensor) -> Tensor:
        if settings.loss == "plackett-luce":
            return plackett_luce(rewards, ranks)
        if settings.ties == "rao-kupper":
            return rao_kupper(rewards, ranks, share, margin)
        if settings.ties == "davidson":
            return davidson(rewards, ranks, share, margin)
        return bradley_terry(rewards, ranks, margin)

    def loss(rewards: Tensor, ranks: Tensor) -> Tensor:
        losses = likelihood(rewards, ranks)
        if settings.centre:
            losses = losses + settings.centre * centring(rewards, ranks)
        return losses

    return loss


def in_rows(rewards: Tensor, ranks: Tensor) -> Tensor:
    """Return the rewards of all responses, (responses,), in the places of their ranks."""
    there = ranks != ABSENT
    empty = torch.zeros(ranks.shape, dtype=rewards.dtype, device=rewards.device)
    return empty.masked_scatter(there, rewards)


def _pairs(rewards: Tensor, ranks: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the first exceeds the second by, less its margin; which first is better; ties.

    Each is (rankings, responses, responses); a tie stands there once.
    """
    there = ranks != ABSENT
    both = there[:, :, None] & there[:, None, :]
    steps = ranks[:, None, :] - ranks[:, :, None]
    once = torch.ones_like(both[0]).triu(1)
    gaps = rewards[:, :, None] - rewards[:, None, :] - margin * steps.to(rewards.dtype)
    return gaps, both & (steps > 0), both & (steps == 0) & once


def _mean(losses: Tensor, counted: Tensor) -> Tensor:
    """Return the mean over what counts of each ranking, (rankings,)."""
    kept = losses.masked_fill(~counted, 0.0).flatten(1).sum(1)
    return kept / counted.flatten(1).sum(1)
