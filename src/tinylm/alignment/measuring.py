"""How far a policy has come: rewards, KL from its start, length and variety of its responses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tinylm.alignment.log_probabilities import (
    response_rows,
    sample_responses,
    token_log_probabilities,
)
from tinylm.alignment.samples import Reward, Sample
from tinylm.evaluation.diversity import distinct
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating

ROWS = 32
"""Responses that are read at once."""


@dataclass(frozen=True)
class Measured:
    """Responses of a policy, and what was measured of each."""

    samples: Sequence[Sample]
    rewards: Sequence[float]
    """Empty where there is no reward."""
    kl: Sequence[float]
    """Log-probability under the policy less that under its start, in nats: the mean estimates
    KL(policy || start) without bias."""
    judged: Sequence[float] = ()
    """True rewards, where they are known beside those that are learned from."""

    @property
    def mean_judged(self) -> float | None:
        """Mean true reward of a response, or None."""
        return sum(self.judged) / len(self.judged) if self.judged else None

    @property
    def mean_kl(self) -> float:
        """Nats a response."""
        return sum(self.kl) / len(self.kl)

    @property
    def mean_reward(self) -> float | None:
        """Mean reward of a response, or None."""
        return sum(self.rewards) / len(self.rewards) if self.rewards else None

    @property
    def mean_length(self) -> float:
        """Tokens of a response, ``<eos>`` counted."""
        return sum(len(sample.response) for sample in self.samples) / len(self.samples)

    @property
    def variety(self) -> float:
        """Different pairs of neighbouring words over all pairs (distinct-2, Li et al. 2016)."""
        return distinct([sample.ids for sample in self.samples], 2)

    def named(self) -> dict[str, float]:
        """Return the means in words, for a line."""
        rewards = {"reward": self.mean_reward, "true reward": self.mean_judged}
        return {name: mean for name, mean in rewards.items() if mean is not None} | {
            "KL": self.mean_kl,
            "length": self.mean_length,
            "variety": self.variety,
        }


@torch.no_grad()
def summed_log_probabilities(
    model: GenerativeModel, samples: Sequence[Sample], temperature: float = 1.0
) -> list[float]:
    """Return the log-probability of each response, in nats."""
    sums: list[float] = []
    device = model.embedding.weight.device
    with evaluating(model):
        for first in range(0, len(samples), ROWS):
            rows = response_rows(samples[first : first + ROWS]).to(device)
            sums += token_log_probabilities(model, rows, temperature).double().sum(1).tolist()
    return sums


def measure_policy(
    model: GenerativeModel,
    start: GenerativeModel,
    prompts: Sequence[Sequence[int]],
    most: int,
    seed: int,
    reward: Reward | None = None,
    temperature: float = 1.0,
    judge: Reward | None = None,
    progress: Callable[[float], None] = lambda responses: None,
) -> Measured:
    """Answer prompts and measure the responses.

    Args:
        model: the policy; any mode.
        start: what it is compared with.
        prompts: token ids, ``<sos>`` first.
        most: tokens of a response.
        seed: of the responses.
        reward: of each; None: there is none.
        temperature: of both.
        judge: the true reward, if another is learned from.
        progress: called with the number of responses that are drawn.
    """
    samples = sample_responses(model, prompts, most, seed, temperature, progress)
    own, before = (summed_log_probabilities(each, samples, temperature) for each in (model, start))
    return Measured(
        samples,
        [] if reward is None else reward(samples),
        [a - b for a, b in zip(own, before, strict=True)],
        [] if judge is None else judge(samples),
    )
