"""Losses of preferences over log-probabilities, one function each.

The log ratio of a response is its log-probability under the policy less that under the start.
Which of them are sums and which means over its tokens matters: DPO and KTO take sums, SimPO takes
means, IPO is written with sums and trained with means.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def dpo_loss(
    better: Tensor, worse: Tensor, beta: float, wrong: float = 0.0, robust: bool = False
) -> Tensor:
    """Return DPO's loss of each pair, (pairs,): Rafailov et al. 2023, equation 7.

    Args:
        better: log ratio of the better response, summed over its tokens, (pairs,).
        worse: of the worse one.
        beta: how strongly the policy is held to the start.
        wrong: share of the pairs that are taken to be the wrong way round, below 1/2. The loss is
            then its mean over right and wrong (Mitchell 2023, equation 3).
        robust: weigh both so that the mean over labels of which that share is wrong is the loss
            of right labels (Ray Chowdhury et al. 2024, equation 12); it can be negative.
    """
    margin = beta * (better - worse)
    if not wrong:
        return -logsigmoid(margin)
    right, flipped = -logsigmoid(margin), -logsigmoid(-margin)
    if robust:
        return ((1 - wrong) * right - wrong * flipped) / (1 - 2 * wrong)
    return (1 - wrong) * right + wrong * flipped


def ipo_loss(better: Tensor, worse: Tensor, beta: float) -> Tensor:
    """Return IPO's loss of each pair, (pairs,): Azar et al. 2024, equation 17.

    Args:
        better: log ratio of the better response, (pairs,); its mean or its sum over tokens.
        worse: of the worse one.
        beta: tau in the paper: the two shall differ by 1/(2 beta), and no more.
    """
    return (better - worse - 1 / (2 * beta)).square()


def kto_loss(
    ratios: Tensor,
    desirable: Tensor,
    baseline: Tensor,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """Return KTO's loss of each response, (responses,): Ethayarajh et al. 2024, equation 8.

    Args:
        ratios: log ratio of each response, summed over its tokens, (responses,).
        desirable: whether it is good, (responses,).
        baseline: z_0, a scalar: the KL divergence from the start that counts as neither gain nor
            loss; no gradient flows through it.
        beta: how strongly the policy is held to the start.
        desirable_weight: of good responses, lambda_D.
        undesirable_weight: of bad ones, lambda_U.
    """
    gain = beta * (ratios - baseline.detach())
    return (desirable_weight * (1 - gain.sigmoid())).where(
        desirable, undesirable_weight * (1 - (-gain).sigmoid())
    )


def simpo_loss(better: Tensor, worse: Tensor, beta: float, gamma: float) -> Tensor:
    """Return SimPO's loss of each pair, (pairs,): Meng et al. 2024, equation 6.

    Args:
        better: mean log-probability of the better response's tokens, (pairs,).
        worse: of the worse one.
        beta: scale of the implicit reward.
        gamma: by how much the better one's implicit reward shall be the higher one.
    """
    return -logsigmoid(beta * (better - worse) - gamma)
