"""Proximal policy optimisation (Schulman et al. 2017), as language models are aligned by it.

Ziegler et al. 2019 and Huang et al. 2024: the divergence from the start is taken from the reward of
every token, the score stands on the last one, advantages are GAE's by a value head and are whitened
over real tokens after the returns are made, ratio and prediction are clipped, nothing is dropped,
and Adam's eps is 1e-5.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tinylm.alignment.advantages import generalised_advantages, on_last, whitened
from tinylm.alignment.policy_losses import adapted_beta, clipped_value_loss
from tinylm.alignment.rollouts import Rollouts
from tinylm.config import TrainingConfig
from tinylm.config.policy_alignment import PPOConfig
from tinylm.tasks.alignment.base import Aim
from tinylm.tasks.alignment.clipped import cost_of_tokens, refuse_estimator, surrogate
from tinylm.tasks.alignment.policy import Drawn, PolicyAlignment, Signal

_ADAM_EPS = 1e-5


class PPO(PolicyAlignment):
    """The ratio of new to old probability, clipped, weighed by advantages of a value head."""

    Settings = PPOConfig
    steps = 60
    label = "PPO"
    noun = "proximal policy optimisation"
    explanation = (
        "*PPO* [[schulman2017]] goes through the responses of a phase several times; the ratio of "
        "new to old probability is clipped, so that none moves too far. What a text so far is "
        "worth is predicted by a value head, and each token is weighed by how much better it did "
        "[[schulman2016]]."
    )

    def begin(self, aim: Aim) -> None:
        """Begin with nothing drawn.

        Raises:
            ConfigError: if the divergence would do nothing.
        """
        refuse_estimator(self.settings)
        super().begin(aim)

    @staticmethod
    def suited(training: TrainingConfig, settings: Any) -> TrainingConfig:
        """Return the settings of a training, with Adam's eps, too."""
        return replace(PolicyAlignment.suited(training, settings), eps=_ADAM_EPS)

    @property
    def has_values(self) -> bool:
        """Values are always learned."""
        return True

    @property
    def normalise(self) -> str:
        """A loss is the mean over all tokens of a step."""
        return "tokens"

    def signal(self, drawn: Drawn) -> Signal:
        """Return GAE, whitened, and the returns from before that."""
        settings, mask = self.settings, drawn.mask
        rewards = on_last(drawn.scores, mask) - cost_of_tokens(drawn, settings, self.beta)
        advantages = generalised_advantages(
            rewards, drawn.values, mask, settings.gamma, settings.gae_lambda
        )
        returns = torch.where(mask, advantages + drawn.values, 0.0)
        return Signal(whitened(advantages, mask) if settings.whiten else advantages, returns)

    def token_losses(self, new: Tensor, old: Tensor, batch: Rollouts) -> Tensor:
        """Return the clipped surrogate of each token; see ``PolicyAlignment``."""
        losses, measured = surrogate(new, old, batch, self.settings, self.beta)
        adapted = {} if self.settings.target_kl is None else {"beta": self.beta}
        self.note(**measured, **adapted)
        return losses

    def value_losses(self, values: Tensor, batch: Rollouts) -> Tensor:
        """Return the clipped squared errors; see ``PolicyAlignment``."""
        clip, weight = self.settings.value_clip, float(self.settings.value_weight)
        return weight * clipped_value_loss(values, batch.values, batch.returns, clip)

    def after_phase(self, kl: float) -> None:
        """Adapt beta, where the divergence has a target."""
        if self.settings.target_kl is not None:
            gain = self.settings.beta_gain
            self.beta = adapted_beta(self.beta, kl, self.settings.target_kl, gain)
