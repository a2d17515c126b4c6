"""Direct preference optimisation (Rafailov et al. 2023)."""

from __future__ import annotations

from torch import Tensor

from tinylm.alignment.preference_losses import dpo_loss
from tinylm.config.alignment import DPOConfig
from tinylm.tasks.alignment.preference import PreferenceAlignment


class DPO(PreferenceAlignment):
    """The log-ratio to the start is the reward that explains the preferences."""

    Settings = DPOConfig
    label = "DPO"
    noun = "direct preference optimisation"
    explanation = (
        "*DPO* [[rafailov2023]] trains the policy itself as the reward model of the pairs, whose "
        "reward is beta times its log-ratio to the start."
    )

    def losses(self, sums: Tensor, start: Tensor) -> Tensor:
        """Return the loss of each pair; see ``PreferenceAlignment.losses``."""
        chosen, rejected = sums.chunk(2)
        start_chosen, start_rejected = start.chunk(2)
        return dpo_loss(chosen, rejected, start_chosen, start_rejected, self.settings.beta)
