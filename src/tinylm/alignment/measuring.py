"""How far a policy has come: rewards, KL from its start, length and variety of its responses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tinylm.alignment.log_probabilities import sample_responses, summed_log_probabilities
from tinylm.alignment.samples import Reward, Sample
from tinylm.evaluation.diversity import distinct
from tinylm.model.base import GenerativeModel


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
    texts = [(sample.prompt, sample.response) for sample in samples]
    kl = torch.sub(*(summed_log_probabilities(each, texts, temperature) for each in (model, start)))
    return Measured(
        samples,
        [] if reward is None else reward(samples),
        kl.tolist(),
        [] if judge is None else judge(samples),
    )
