"""Identity preference optimisation (Azar et al. 2024)."""

from __future__ import annotations

from torch import Tensor

from tinylm.alignment.preference_losses import ipo_loss
from tinylm.config.preference_alignment import IPOConfig
from tinylm.tasks.alignment.preference import PreferenceAlignment, Responses


class IPO(PreferenceAlignment):
    """The log ratios of a pair shall differ by a fixed amount: certain labels push no further."""

    Settings = IPOConfig
    label = "IPO"
    noun = "identity preference optimisation"
    explanation = (
        "*IPO* [[azar2024]] draws the difference of the log-ratios of a pair to 1/(2 beta) by its "
        "square, so that it stays finite where one response always wins."
    )

    def _ratios(self, responses: Responses) -> Tensor:
        ratios = responses.ratios
        return ratios / responses.lengths if self.settings.over_tokens == "mean" else ratios

    def implicit_rewards(self, responses: Responses) -> Tensor:
        """Return beta times the log ratio, (responses,); those of a pair shall differ by 1/2."""
        beta: float = self.settings.beta
        return beta * self._ratios(responses)

    def losses(self, responses: Responses, better: Tensor, worse: Tensor) -> Tensor:
        """Return the loss of each pair; see ``PreferenceAlignment.losses``."""
        ratios = self._ratios(responses)
        return ipo_loss(ratios[better], ratios[worse], self.settings.beta)
