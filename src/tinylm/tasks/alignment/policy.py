"""Learning from the rewards of own samples: the rollouts that every policy gradient needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinylm.alignment.log_probabilities import response_rows, sample_responses
from tinylm.alignment.measuring import Measured, summed_log_probabilities
from tinylm.alignment.samples import Sample
from tinylm.data.windows import Batch
from tinylm.model.base import GenerativeModel
from tinylm.tasks.alignment.base import Aim, Alignment

_SEEDS = 2**31


@dataclass(frozen=True)
class Rollouts:
    """Responses to prompts, and what they earned."""

    rows: Batch
    """(responses, seq)."""
    advantages: Tensor
    """(responses,)."""

    @property
    def num_targets(self) -> int:
        """Responses."""
        return len(self.advantages)

    @property
    def size(self) -> tuple[int, int] | None:
        """Rows and their tokens."""
        return self.rows.size

    def to(self, device: torch.device) -> Rollouts:
        """Return them on a device."""
        return replace(self, rows=self.rows.to(device), advantages=self.advantages.to(device))


class PolicyAlignment(Alignment[Rollouts]):
    """What the policy gradients share: prompts in, rewards of the policy's own responses out."""

    learns_from = "rewards"
    learning_rate = 1e-4
    steps = 100
    batch_size = 64

    def begin(self, aim: Aim) -> None:
        """Begin with no batch drawn."""
        self.drawn = 0
        self.longest = len(aim.prompts[0]) + aim.most
        self._measures: dict[str, float] = {}

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self.aim.prompts)

    def batch(self, indices: npt.NDArray[np.int64]) -> Rollouts:
        """Return prompts by their indices, not yet answered."""
        prompts = [Sample(tuple(self.aim.prompts[i]), (), True) for i in indices]
        return Rollouts(response_rows(prompts), torch.zeros(len(indices)))

    def prepare(self, model: GenerativeModel, batch: Rollouts) -> Rollouts:
        """Return the policy's answers."""
        aim = self.aim
        assert aim.reward is not None
        seed = int(np.random.default_rng((aim.seed, self.drawn)).integers(_SEEDS))
        self.drawn += 1
        length = len(aim.prompts[0])
        prompts: Sequence[Sequence[int]] = batch.rows.ids[:, :length].tolist()
        samples = sample_responses(model, prompts, aim.most, seed)
        self.generated += sum(len(sample.response) for sample in samples)
        rewards = aim.reward(samples)
        device = model.embedding.weight.device
        own, start = (
            summed_log_probabilities(each, samples) for each in (model, self.start_on(device))
        )
        kl = [a - b for a, b in zip(own, start, strict=True)]
        earned = torch.tensor(rewards) - self.settings.beta * torch.tensor(kl)
        self._measures = {
            "reward": sum(rewards) / len(rewards),
            "KL": sum(kl) / len(kl),
            "length": sum(len(s.response) for s in samples) / len(samples),
        }
        return Rollouts(response_rows(samples), self.advantages(earned))

    def advantages(self, earned: Tensor) -> Tensor:
        """Return the advantage of each response, (responses,)."""
        raise NotImplementedError

    def held_out_loss(self, model: GenerativeModel, measured: Measured) -> float:
        """Return what the objective lacks: beta KL less the reward."""
        assert measured.mean_reward is not None
        return float(self.settings.beta * measured.mean_kl - measured.mean_reward)

    def measures(self) -> Mapping[str, float]:
        """Return reward, KL and length of the last responses."""
        return self._measures

    def state(self) -> dict[str, Any]:
        """Return how many batches were drawn, too."""
        return super().state() | {"drawn": self.drawn}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on after the batches that were drawn."""
        super().restore(state, tensors)
        self.drawn = state["drawn"]
