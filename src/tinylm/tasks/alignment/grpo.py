"""Group relative policy optimisation (Shao et al. 2024), and its variants by their settings.

GRPO: ``scale=group normalise=sequence``. Dr. GRPO (Liu et al. 2025): ``scale=none
normalise=constant``, the unbiased one. DAPO (Yu et al. 2025): ``normalise=tokens clip_high=0.28``.
GSPO (Zheng et al. 2025): ``ratio=sequence-mean``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinylm.alignment.policy_losses import group_deviation, group_mean
from tinylm.alignment.rollouts import Rollouts
from tinylm.config.policy_alignment import GRPOConfig
from tinylm.tasks.alignment.base import Aim
from tinylm.tasks.alignment.clipped import IN_LOSS, cost_of_tokens, refuse_estimator, surrogate
from tinylm.tasks.alignment.policy import Drawn, PolicyAlignment, Signal

_EPS = 1e-4
_OF_GROUP = "group"


class GRPO(PolicyAlignment):
    """PPO's ratio, weighed by how a response did within the group of its prompt."""

    Settings = GRPOConfig
    label = "GRPO"
    noun = "group relative policy optimisation"
    explanation = (
        "*GRPO* [[shao2024]] draws a group of responses to each prompt and weighs them by how far "
        "each is from the group's mean, in standard deviations: no value is learned. Without these "
        "deviations, and over a constant length, it is unbiased [[liu2025]]."
    )

    def begin(self, aim: Aim) -> None:
        """Begin with nothing drawn.

        Raises:
            ConfigError: if the divergence would do nothing.
        """
        refuse_estimator(self.settings)
        super().begin(aim)

    @property
    def normalise(self) -> str:
        """As the settings say."""
        return str(self.settings.normalise)

    @property
    def needs_old(self) -> bool:
        """Not where each response is learned from once, and its divergence is in the loss."""
        several = self.settings.passes * self.settings.minibatches > 1
        return bool(several or self.settings.kl_in != IN_LOSS)

    def signal(self, drawn: Drawn) -> Signal:
        """Return how far each response is from the mean of its group."""
        settings, group = self.settings, drawn.group
        cost = cost_of_tokens(drawn, settings, self.beta) * drawn.mask
        earned = drawn.scores - cost.sum(1)
        advantages = earned - group_mean(earned, group)
        if settings.scale == _OF_GROUP:
            advantages = advantages / (group_deviation(earned, group, settings.bessel) + _EPS)
        of_tokens = torch.where(drawn.mask, advantages[:, None], 0.0)
        return Signal(of_tokens, torch.zeros_like(of_tokens))

    def token_losses(self, new: Tensor, old: Tensor, batch: Rollouts) -> Tensor:
        """Return the clipped surrogate of each token; see ``PolicyAlignment``."""
        losses, measured = surrogate(new, old, batch, self.settings, self.beta, self.settings.ratio)
        self.note(**measured)
        return losses
