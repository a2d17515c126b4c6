"""Returns and advantages of a batch of responses: ``planning.advantages`` over (rows, seq).

A token is a step. What is not a real token of a response (padding, the prompt, whatever stands
after ``<eos>``) is masked, and gets 0. The real tokens of a row stand side by side. After the last
of them comes V = 0 if the response has ended, or the value of the state where it was cut off
(``after``), for more would have come.

The score of a response stands on its last real token: on ``<eos>`` where it has ended, and on the
last token before the cut else (``on_last``).
"""

from __future__ import annotations

import torch
from torch import Tensor

_EPS = 1e-8


def on_last(scores: Tensor, mask: Tensor) -> Tensor:
    """Return rewards of tokens, (rows, seq): each response's score on its last real one.

    Args:
        scores: (rows,).
        mask: (rows, seq), bool, True at real tokens.
    """
    seq = mask.shape[1]
    places = torch.arange(seq, device=mask.device)
    last = torch.where(mask, places, -1).amax(1, keepdim=True)  # (rows, 1)
    return torch.where(places == last, scores[:, None], 0.0)


def monte_carlo_returns(
    rewards: Tensor, mask: Tensor, gamma: float, after: Tensor | None = None
) -> Tensor:
    """Return the discounted sum of the rewards from each token on, (rows, seq).

    Args:
        rewards: of the tokens, (rows, seq).
        mask: (rows, seq), bool, True at real tokens.
        gamma: what a reward is worth one token later.
        after: value of the state after the last token, (rows,); None: all have ended.
    """
    return lambda_returns(rewards, torch.zeros_like(rewards), mask, gamma, 1.0, after)


def n_step_returns(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, n: int, after: Tensor | None = None
) -> Tensor:
    """Return the rewards of ``n`` tokens and the value of where they lead, (rows, seq).

    Arguments as of ``generalised_advantages``.
    """
    returns = values
    for _ in range(n):
        returns = rewards + gamma * _following(returns, mask, after)
    return torch.where(mask, returns, 0.0)


def lambda_returns(
    rewards: Tensor,
    values: Tensor,
    mask: Tensor,
    gamma: float,
    lambda_: float,
    after: Tensor | None = None,
) -> Tensor:
    """Return TD(lambda) returns, (rows, seq): a value's target, and 0 where nothing is real.

    Arguments as of ``generalised_advantages``.
    """
    advantages = generalised_advantages(rewards, values, mask, gamma, lambda_, after)
    return torch.where(mask, advantages + values, 0.0)


def generalised_advantages(
    rewards: Tensor,
    values: Tensor,
    mask: Tensor,
    gamma: float,
    lambda_: float,
    after: Tensor | None = None,
) -> Tensor:
    """Return GAE, (rows, seq): Schulman et al. 2016, equation 16.

    Args:
        rewards: of the tokens, (rows, seq).
        values: of the states before them, (rows, seq).
        mask: (rows, seq), bool, True at real tokens.
        gamma: what a reward is worth one token later.
        lambda_: 0 takes the error of one prediction, 1 all that follow.
        after: value of the state after the last token, (rows,); None: all have ended.
    """
    errors = rewards + gamma * _following(values, mask, after) - values  # (rows, seq)
    running = rewards.new_zeros(len(rewards))
    columns = []
    for error, real in zip(errors.T.flip(0), mask.T.flip(0), strict=True):
        running = torch.where(real, error + gamma * lambda_ * running, 0.0)
        columns.append(running)
    return torch.stack(columns[::-1], 1)


def _following(x: Tensor, mask: Tensor, after: Tensor | None) -> Tensor:
    """Return what stands at the next real token, and ``after`` behind the last, (rows, seq)."""
    last = mask & ~torch.nn.functional.pad(mask[:, 1:], (0, 1))
    shifted = torch.nn.functional.pad(x[:, 1:], (0, 1))
    end = x.new_zeros(len(x)) if after is None else after
    return torch.where(last, end[:, None], shifted)


def whitened(x: Tensor, mask: Tensor, keep_mean: bool = False) -> Tensor:
    """Return numbers with mean 0 and variance 1 over real tokens alone, 0 at others.

    Args:
        x: (rows, seq).
        mask: (rows, seq), bool, True at real tokens.
        keep_mean: scale alone, and put the mean back.
    """
    real = x[mask]
    if len(real) < 2:
        return torch.where(mask, x if keep_mean else torch.zeros_like(x), 0.0)
    mean, variance = real.mean(), real.var()
    made = (x - mean) * torch.rsqrt(variance + _EPS)
    return torch.where(mask, made + mean if keep_mean else made, 0.0)
