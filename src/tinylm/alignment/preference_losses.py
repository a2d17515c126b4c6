"""Losses of preferences over log-probabilities: DPO and its kin, one function each."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def dpo_loss(
    chosen: Tensor, rejected: Tensor, start_chosen: Tensor, start_rejected: Tensor, beta: float
) -> Tensor:
    """Return the loss of each pair, (pairs,): Rafailov et al. 2023, equation 7.

    Args:
        chosen: log-probability of the better response, summed over its tokens, (pairs,).
        rejected: of the worse one.
        start_chosen: of the better one under the start.
        start_rejected: of the worse one under the start.
        beta: how strongly it is held to the start.
    """
    margin = beta * ((chosen - start_chosen) - (rejected - start_rejected))
    return -logsigmoid(margin)
