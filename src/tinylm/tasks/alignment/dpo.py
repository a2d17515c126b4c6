"""Direct preference optimisation (Rafailov et al. 2023)."""

from __future__ import annotations

from torch import Tensor

from tinylm.alignment.preference_losses import dpo_loss
from tinylm.config.preference_alignment import DPOConfig
from tinylm.tasks.alignment.preference import PreferenceAlignment, Responses


class DPO(PreferenceAlignment):
    """The log-ratio to the start is the reward that explains the preferences."""

    Settings = DPOConfig
    label = "DPO"
    noun = "direct preference optimisation"
    explanation = (
        "*DPO* [[rafailov2023]] trains the policy itself as the reward model of the pairs, whose "
        "reward is beta times its log-ratio to the start. If a share of the labels is wrong, the "
        "loss can be its mean over both ways round [[mitchell2023]], or be made free of that bias "
        "[[chowdhury2024]]."
    )

    def implicit_rewards(self, responses: Responses) -> Tensor:
        """Return beta times the log ratio, (responses,)."""
        beta: float = self.settings.beta
        return beta * responses.ratios

    def losses(self, responses: Responses, better: Tensor, worse: Tensor) -> Tensor:
        """Return the loss of each pair; see ``PreferenceAlignment.losses``."""
        settings, ratios = self.settings, responses.ratios
        return dpo_loss(
            ratios[better],
            ratios[worse],
            settings.beta,
            settings.label_smoothing,
            settings.smoothing == "robust",
        )
