"""Simple preference optimisation (Meng et al. 2024)."""

from __future__ import annotations

from torch import Tensor

from tinylm.alignment.preference_losses import simpo_loss
from tinylm.config.preference_alignment import SimPOConfig
from tinylm.tasks.alignment.preference import PreferenceAlignment, Responses


class SimPO(PreferenceAlignment):
    """The mean log-probability of a response's tokens is its reward; the start has no part."""

    Settings = SimPOConfig
    label = "SimPO"
    noun = "simple preference optimisation"
    explanation = (
        "*SimPO* [[meng2024]] takes beta times the mean log-probability of a response's tokens as "
        "its reward, which shall be higher by gamma for the better one; nothing holds the policy "
        "to the start."
    )
    reads_start = False

    def implicit_rewards(self, responses: Responses) -> Tensor:
        """Return beta times the mean log-probability of a token, (responses,)."""
        beta: float = self.settings.beta
        return beta * responses.sums / responses.lengths

    def losses(self, responses: Responses, better: Tensor, worse: Tensor) -> Tensor:
        """Return the loss of each pair; see ``PreferenceAlignment.losses``."""
        means = responses.sums / responses.lengths
        return simpo_loss(means[better], means[worse], self.settings.beta, self.settings.gamma)
