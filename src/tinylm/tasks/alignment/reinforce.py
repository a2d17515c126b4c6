"""REINFORCE (Williams 1992), with a baseline, and with weights where responses are older."""

from __future__ import annotations

import torch
from torch import Tensor

from tinylm.alignment.advantages import monte_carlo_returns, on_last
from tinylm.alignment.policy_losses import (
    IMPORTANCE,
    clipped_value_loss,
    effective_sample_size,
    group_mean,
    leave_one_out,
    policy_gradient_loss,
)
from tinylm.alignment.rollouts import Rollouts
from tinylm.config.policy_alignment import ReinforceConfig
from tinylm.errors import ConfigError
from tinylm.tasks.alignment.base import Aim
from tinylm.tasks.alignment.policy import Drawn, PolicyAlignment, Signal

_OF_GROUPS = {"mean": group_mean, "leave-one-out": leave_one_out}
_LEARNED = "value"


class Reinforce(PolicyAlignment):
    """The gradient of the log-probability, weighed by the advantage."""

    Settings = ReinforceConfig
    steps = 60
    label = "REINFORCE"
    noun = "REINFORCE"
    explanation = (
        "*REINFORCE* [[williams1992]] weighs the gradient of a response's log-probability by how "
        "much more it earned than a baseline, such as the mean of the others [[kool2019]]."
    )

    def begin(self, aim: Aim) -> None:
        """Begin with nothing drawn.

        Raises:
            ConfigError: if one response shall be compared with others.
        """
        if len(self) < 2 and self.settings.baseline in _OF_GROUPS:
            raise ConfigError(
                f"-o baseline={self.settings.baseline} compares the responses of a phase, and "
                "there is one: give more prompts or samples, or baseline=none"
            )
        super().begin(aim)

    @property
    def has_values(self) -> bool:
        """Whether the baseline is learned."""
        return bool(self.settings.baseline == _LEARNED)

    def signal(self, drawn: Drawn) -> Signal:
        """Return what was earned, the divergence taken off, less the baseline."""
        cost = self.beta * (drawn.old - drawn.start)
        if self.has_values:  # of each token, what it and all later ones earned
            rewards = on_last(drawn.scores, drawn.mask) - cost
            returns = monte_carlo_returns(rewards, drawn.mask, 1.0)
            return Signal(torch.where(drawn.mask, returns - drawn.values, 0.0), returns)
        earned = drawn.scores - cost.sum(1)  # (responses,)
        if (baseline := _OF_GROUPS.get(self.settings.baseline)) is not None:
            earned = earned - baseline(earned, drawn.group if drawn.group > 1 else len(earned))
        advantages = torch.where(drawn.mask, earned[:, None], 0.0)
        return Signal(advantages, torch.zeros_like(advantages))

    def token_losses(self, new: Tensor, old: Tensor, batch: Rollouts) -> Tensor:
        """Return minus advantage times log-probability, weighed; see ``PolicyAlignment``."""
        log_ratio = (new - old).detach()
        self.note(effective_sample_size=effective_sample_size(log_ratio.sum(1)))
        importance = IMPORTANCE.get(self.settings.importance)
        if importance is None:
            return policy_gradient_loss(new, batch.advantages)
        weights = importance(log_ratio, batch.mask)
        if self.settings.largest_weight is not None:
            weights = weights.clamp(max=self.settings.largest_weight)
        return weights * policy_gradient_loss(new, batch.advantages - self._dearer(log_ratio))

    def _dearer(self, log_ratio: Tensor) -> Tensor:
        """Return what the divergence costs more than when the responses were drawn, (rows, seq)."""
        more = self.beta * log_ratio
        if self.has_values:
            return more.flip(1).cumsum(1).flip(1)
        return more.sum(1, keepdim=True).expand_as(more)

    def value_losses(self, values: Tensor, batch: Rollouts) -> Tensor:
        """Return the squared errors, over the longest length; see ``PolicyAlignment``."""
        losses = clipped_value_loss(values, batch.values, batch.returns, None)
        weight = float(self.settings.value_weight) / self.aim.most
        return weight * losses
