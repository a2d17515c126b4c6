"""Best of n: n responses are drawn and the best is kept, the simplest alignment there is.

Its distribution is known where rewards are: n times the best of n is a response y if all n are no
better than y and one at least is as good. No policy is trained, so that what it earns at its
divergence from the start is what a trained one is compared with.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def best_of_bound(n: int) -> float:
    """Return ln n - (n - 1)/n, in nats: KL(best of n || start) is that at most.

    It is reached where all rewards differ and no response is likely (Beirami et al. 2024, theorem
    3.1): 0.193, 0.636, 1.835 and 3.175 for n = 2, 4, 16 and 64.
    """
    return math.log(n) - (n - 1) / n


def best_of(start: Tensor, rewards: Tensor, n: int) -> Tensor:
    """Return the log-probabilities of the best of n responses, (responses,).

    Of the drawn responses that earn most one is taken by lot.

    Args:
        start: log-probabilities of all responses, (responses,).
        rewards: of each, (responses,).
        n: responses that are drawn, 1 or more.
    """
    levels, level = torch.unique(rewards, return_inverse=True)  # in rising order
    share = torch.zeros(len(levels), dtype=start.dtype, device=start.device)
    share = share.index_add(0, level, start.exp())
    up_to = share.cumsum(0)
    up_to = up_to / up_to[-1]
    below = torch.cat([up_to.new_zeros(1), up_to[:-1]])
    of_level = (up_to**n - below**n).log()  # the best one has this reward
    return of_level[level] + start - share.log()[level]
