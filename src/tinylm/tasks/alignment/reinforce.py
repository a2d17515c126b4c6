"""REINFORCE (Williams 1992)."""

from __future__ import annotations

from torch import Tensor

from tinylm.alignment.log_probabilities import token_log_probabilities
from tinylm.config.alignment import ReinforceConfig
from tinylm.model.base import GenerativeModel
from tinylm.tasks.alignment.policy import PolicyAlignment, Rollouts


class Reinforce(PolicyAlignment):
    """The gradient of the log-probability, weighed by the advantage."""

    Settings = ReinforceConfig
    label = "REINFORCE"
    noun = "REINFORCE"
    explanation = (
        "*REINFORCE* [[williams1992]] weighs the gradient of a response's log-probability by how "
        "much more it earned than the others of its batch."
    )

    def advantages(self, earned: Tensor) -> Tensor:
        """Return what was earned less the mean of the others (leave-one-out)."""
        return (earned - earned.mean()) * len(earned) / (len(earned) - 1)

    def loss(self, model: GenerativeModel, batch: Rollouts) -> tuple[Tensor, int]:
        """Return the summed loss of responses; see ``Task.loss``."""
        sums = token_log_probabilities(model, batch.rows).sum(1)
        return -(batch.advantages * sums).sum(), batch.num_targets
