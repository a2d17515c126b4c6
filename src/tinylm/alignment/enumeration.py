"""A space small enough to list: every response, its exact probability, and the best policy.

The objective E_policy[reward] - beta KL(policy || start) is largest at

    best(y) = start(y) exp(reward(y) / beta) / Z

(Rafailov et al. 2023, equation 4). Where all responses can be listed, that policy, the objective,
its gradient and both divergences are sums without any sampling, so that what an estimate should
be is known. The cost is one forward pass over all responses: 341 for five tokens and four places.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tinylm.alignment.log_probabilities import NEVER, response_rows, token_log_probabilities
from tinylm.alignment.samples import Reward, Sample
from tinylm.errors import AlignmentError
from tinylm.model.base import GenerativeModel
from tinylm.tokenizers.base import EOS_ID

_MOST = 100_000
"""Responses: those of a story's length cannot be listed."""


def every_response(
    vocab_size: int, prompt: Sequence[int], most: int, never: Sequence[int] = NEVER
) -> list[Sample]:
    """Return all responses to a prompt: those that end within ``most`` tokens, and those cut off.

    Args:
        vocab_size: ids that there are.
        prompt: token ids, ``<sos>`` first.
        most: tokens of a response, ``<eos>`` counted.
        never: ids that are never drawn.

    Raises:
        AlignmentError: if there are more than 100,000.
    """
    words = [i for i in range(vocab_size) if i != EOS_ID and i not in never]
    count = sum(len(words) ** length for length in range(most + 1))
    if count > _MOST:
        raise AlignmentError(
            f"{vocab_size} tokens and responses of {most} make {count:,} of them, and at most "
            f"{_MOST:,} are listed: take fewer tokens"
        )
    given = tuple(prompt)
    samples: list[Sample] = []
    open_ones: list[tuple[int, ...]] = [()]
    for _ in range(most):
        samples += [Sample(given, ids, True) for ids in open_ones]
        open_ones = [(*ids, word) for ids in open_ones for word in words]
    return samples + [Sample(given, ids, False) for ids in open_ones]


def log_probabilities(
    model: GenerativeModel, samples: Sequence[Sample], temperature: float = 1.0
) -> Tensor:
    """Return the log-probability of each response, (responses,), with a gradient, in nats."""
    rows = response_rows(samples).to(model.embedding.weight.device)
    return token_log_probabilities(model, rows, temperature).sum(1)


def best_policy(start: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """Return the log-probabilities of the policy that no other betters, (responses,).

    Args:
        start: log-probabilities of all responses under the start, (responses,).
        rewards: of each, (responses,).
        beta: weight of the divergence, above 0.
    """
    return (start + rewards / beta).log_softmax(0)


def kl_divergence(left: Tensor, right: Tensor) -> Tensor:
    """Return KL(left || right) of log-probabilities of all responses, (responses,), in nats."""
    return (left.exp() * (left - right)).sum()


def objective(policy: Tensor, start: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """Return E_policy[reward] - beta KL(policy || start), a scalar.

    Args:
        policy: log-probabilities of all responses, (responses,); the gradient is exact.
        start: under the start, (responses,).
        rewards: of each, (responses,).
        beta: weight of the divergence.
    """
    return (policy.exp() * rewards).sum() - beta * kl_divergence(policy, start)


class Space:
    """All responses to some prompts, and what each earns: objective and best policy, exactly.

    Prompts are equally likely: what is returned is the mean over them.
    """

    def __init__(
        self,
        start: GenerativeModel,
        prompts: Sequence[Sequence[int]],
        most: int,
        reward: Reward,
        beta: float,
        temperature: float = 1.0,
    ) -> None:
        """List the responses.

        Args:
            start: what policies are held to.
            prompts: token ids, ``<sos>`` first.
            most: tokens of a response, ``<eos>`` counted.
            reward: of a response.
            beta: weight of the divergence, above 0.
            temperature: of start and policy.
        """
        vocab_size = start.config.resolved_vocab_size
        self.beta = beta
        self.temperature = temperature
        self.samples = [every_response(vocab_size, prompt, most) for prompt in prompts]
        with torch.no_grad():
            self.start = self.log_probabilities(start)
        kind = self.start[0]
        self.rewards = [
            torch.tensor(reward(each), dtype=kind.dtype, device=kind.device)
            for each in self.samples
        ]
        self.best = [best_policy(a, r, beta) for a, r in zip(self.start, self.rewards, strict=True)]

    def log_probabilities(self, model: GenerativeModel) -> list[Tensor]:
        """Return those of every prompt's responses, (responses,) each, with a gradient."""
        return [log_probabilities(model, each, self.temperature) for each in self.samples]

    def objective(self, model: GenerativeModel) -> Tensor:
        """Return the exact objective of a policy, a scalar with a gradient."""
        policies = self.log_probabilities(model)
        parts = zip(policies, self.start, self.rewards, strict=True)
        values = [objective(policy, start, r, self.beta) for policy, start, r in parts]
        return torch.stack(values).mean()

    def gradient(self, model: GenerativeModel) -> list[Tensor]:
        """Return the exact gradient of the objective, one tensor a parameter that is trained."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(self.objective(model), parameters, allow_unused=True)
        return [
            torch.zeros_like(p) if g is None else g
            for p, g in zip(parameters, gradients, strict=True)
        ]

    @torch.no_grad()
    def reward(self, model: GenerativeModel) -> float:
        """Return the exact mean reward of a policy."""
        pairs = zip(self.log_probabilities(model), self.rewards, strict=True)
        return float(torch.stack([(policy.exp() * r).sum() for policy, r in pairs]).mean())

    def kl_from_start(self, model: GenerativeModel) -> float:
        """Return KL(policy || start), in nats a response."""
        return _mean_kl(self._detached(model), self.start)

    def kl_to_start(self, model: GenerativeModel) -> float:
        """Return KL(start || policy), in nats a response."""
        return _mean_kl(self.start, self._detached(model))

    def kl_from_best(self, model: GenerativeModel) -> float:
        """Return KL(policy || best): beta times it is what the objective lacks of the largest."""
        return _mean_kl(self._detached(model), self.best)

    def kl_to_best(self, model: GenerativeModel) -> float:
        """Return KL(best || policy), in nats a response."""
        return _mean_kl(self.best, self._detached(model))

    def largest(self) -> float:
        """Return the largest objective that there is: beta log Z."""
        normalisers = [
            (start + r / self.beta).logsumexp(0)
            for start, r in zip(self.start, self.rewards, strict=True)
        ]
        return self.beta * float(torch.stack(normalisers).mean())

    @torch.no_grad()
    def _detached(self, model: GenerativeModel) -> list[Tensor]:
        return self.log_probabilities(model)


def _mean_kl(lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> float:
    pairs = zip(lefts, rights, strict=True)
    return float(torch.stack([kl_divergence(left, right) for left, right in pairs]).mean())
