"""What PPO and GRPO share: the clipped ratio, and the divergence in the reward or in the loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tinylm.alignment.kl import ESTIMATORS
from tinylm.alignment.policy_losses import IMPORTANCE, clipped_loss
from tinylm.alignment.rollouts import Rollouts
from tinylm.errors import ConfigError
from tinylm.tasks.alignment.policy import Drawn

IN_LOSS = "loss"
"""Where the divergence may be."""
_NO_GRADIENT = ("k1",)


def refuse_estimator(settings: Any) -> None:
    """Refuse an estimate of the divergence that does nothing where it stands.

    Raises:
        ConfigError: naming the settings.
    """
    name = settings.kl_estimator
    if settings.kl_in == IN_LOSS and name in _NO_GRADIENT:
        raise ConfigError(
            f"-o kl_estimator={name} has no gradient in the loss: give kl_estimator=k2, k3 or "
            "weighted-k3, or kl_in=reward"
        )
    if settings.kl_in != IN_LOSS and ESTIMATORS[name].weighted:
        raise ConfigError(
            f"-o kl_estimator={name} has no effect in the reward beside k3: give kl_estimator=k3, "
            "or kl_in=loss"
        )


def cost_of_tokens(drawn: Drawn, settings: Any, beta: float) -> Tensor:
    """Return what the divergence takes from the reward of each token, (responses, seq)."""
    if settings.kl_in == IN_LOSS:
        return torch.zeros_like(drawn.old)
    return beta * ESTIMATORS[settings.kl_estimator].value(drawn.old - drawn.start)


def surrogate(
    new: Tensor, old: Tensor, batch: Rollouts, settings: Any, beta: float, of: str = "token"
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of each token, (rows, seq), and what was measured of it.

    Args:
        new: log-probabilities with a gradient, (rows, seq).
        old: under the policy that drew them.
        batch: the responses.
        settings: of the method.
        beta: weight of the divergence, where it is in the loss.
        of: what the ratio is of, a key of ``IMPORTANCE``.
    """
    mask = batch.mask
    ratio = IMPORTANCE[of](new - old, mask)
    losses = clipped_loss(ratio, batch.advantages, settings.clip_low, settings.clip_high)
    if settings.kl_in == IN_LOSS:
        weight = IMPORTANCE["token"](new - old, mask)
        losses = losses + beta * ESTIMATORS[settings.kl_estimator].loss(new - batch.start, weight)
    with torch.no_grad():
        low, high = 1 - settings.clip_low, 1 + settings.clip_high
        advantages = batch.advantages
        clipped = ((ratio > high) & (advantages > 0)) | ((ratio < low) & (advantages < 0))
        measured = {
            "clip_fraction": float(clipped[mask].double().mean()),
            "KL_of_the_phase": float(ESTIMATORS["k3"].value(old - new)[mask].double().mean()),
        }
    return losses, measured
