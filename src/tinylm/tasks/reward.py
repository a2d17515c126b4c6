"""A reward model is trained on rankings: the responses of one ranking are one example together.

Where the body is frozen, what the head reads never changes: it is computed once (``read_once``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinylm.alignment.reward_losses import ABSENT, in_rows, reward_loss
from tinylm.alignment.reward_model import RewardModel
from tinylm.config.reward import RewardConfig
from tinylm.data.preferences import Preferences, Ranking
from tinylm.data.windows import pad_rows
from tinylm.evaluation.classification import for_each_text
from tinylm.tokenizers.base import Tokenizer
from tinylm.training.task import Task


@dataclass(frozen=True)
class RankedBatch:
    """The responses of some rankings, one ranking's after another's."""

    ids: Tensor
    """Prompt and response, (responses, seq), int64; or features, (responses, hidden)."""
    ranks: Tensor
    """(rankings, most responses), int64, ``ABSENT`` where a ranking has fewer."""
    real: Tensor | None = None
    """(responses, seq), False where a token is padding."""

    @property
    def num_targets(self) -> int:
        """Rankings."""
        return len(self.ranks)

    @property
    def size(self) -> tuple[int, int] | None:
        """Texts and their tokens; None for features of texts that were read before."""
        if self.ids.is_floating_point():
            return None
        rows, seq = self.ids.shape
        return rows, seq

    def to(self, device: torch.device) -> RankedBatch:
        """Return the batch on a device."""
        real = None if self.real is None else self.real.to(device)
        return replace(self, ids=self.ids.to(device), ranks=self.ranks.to(device), real=real)


class RewardModelling(Task[RewardModel, RankedBatch]):
    """Rankings; those held out are judged at every validation."""

    in_nats = False

    def __init__(
        self,
        tokenizer: Tokenizer,
        preferences: Preferences,
        settings: RewardConfig,
        batch_size: int,
    ) -> None:
        """Train on rankings and validate on others.

        Args:
            tokenizer: of the texts.
            preferences: rankings of both splits, neither empty.
            settings: the loss.
            batch_size: rankings in a forward pass of a validation.
        """
        self.tokenizer = tokenizer
        self.source = preferences.source
        self.rankings, self.held_out = preferences.train, preferences.validation
        self.batch_size = batch_size
        self.loss_of = reward_loss(settings)
        self._features: dict[Ranking, Tensor] = {}
        self._measures: dict[str, float] = {}
        self._held_out_measures: dict[str, float] = {}

    def __len__(self) -> int:
        """Return the number of rankings."""
        return len(self.rankings)

    def batch(self, indices: npt.NDArray[np.int64]) -> RankedBatch:
        """Return rankings by their indices."""
        return self.batch_of([self.rankings[i] for i in indices])

    def batch_of(self, rankings: Sequence[Ranking]) -> RankedBatch:
        """Return rankings, or what the head reads of their responses."""
        most = max(len(ranking.ranks) for ranking in rankings)
        ranks = torch.tensor(
            [[*ranking.ranks, *[ABSENT] * (most - len(ranking.ranks))] for ranking in rankings]
        )
        if self._features:
            return RankedBatch(torch.cat([self._features[ranking] for ranking in rankings]), ranks)
        ids, real = pad_rows([text for ranking in rankings for text in ranking.texts()])
        return RankedBatch(ids, ranks, real)

    def loss(self, model: RewardModel, batch: RankedBatch) -> tuple[Tensor, int]:
        """Return the summed loss of rankings; see ``Task.loss``."""
        rewards = in_rows(model(batch.ids, batch.real), batch.ranks)
        right, pairs = right_pairs(rewards.detach(), batch.ranks)
        self._measures = {"accuracy": right / max(pairs, 1)}
        return self.loss_of(rewards, batch.ranks).sum(), batch.num_targets

    @torch.no_grad()
    def validate(self, model: RewardModel) -> float:
        """Return the mean loss of the held-out rankings, and measure how many pairs are right."""
        device = model.head.weight.device
        total = right = 0.0
        pairs = 0
        with torch.autocast(device.type, enabled=False):
            for first in range(0, len(self.held_out), self.batch_size):
                batch = self.batch_of(self.held_out[first : first + self.batch_size]).to(device)
                rewards = in_rows(model(batch.ids, batch.real), batch.ranks)
                total += self.loss_of(rewards, batch.ranks).sum().item()
                of_batch = right_pairs(rewards, batch.ranks)
                right, pairs = right + of_batch[0], pairs + of_batch[1]
        self._held_out_measures = {"accuracy": right / max(pairs, 1)}
        return total / len(self.held_out)

    def measures(self) -> Mapping[str, float]:
        """Return the share of pairs of the last batch whose better response is rewarded more."""
        return self._measures

    def held_out_measures(self) -> Mapping[str, float]:
        """Return the same of the last validation."""
        return self._held_out_measures

    def read_once(self, model: RewardModel) -> None:
        """Compute what the head reads of every response, for a body that stays as it is."""
        rankings = list(dict.fromkeys((*self.rankings, *self.held_out)))
        texts = [text for ranking in rankings for text in ranking.texts()]
        features = for_each_text(model, model.features, texts, self.batch_size)
        sizes = [len(ranking.ranks) for ranking in rankings]
        parts: tuple[Tensor, ...] = torch.split(features, sizes)
        self._features = dict(zip(rankings, parts, strict=True))


def right_pairs(rewards: Tensor, ranks: Tensor) -> tuple[float, int]:
    """Return how many pairs have the higher reward on their better side, and how many there are.

    Two responses of the same reward are half right. A tie of the ranking is no pair.

    Args:
        rewards: (rankings, responses).
        ranks: (rankings, responses).
    """
    there = ranks != ABSENT
    better = (there[:, :, None] & there[:, None, :]) & (ranks[:, :, None] < ranks[:, None, :])
    gaps = (rewards[:, :, None] - rewards[:, None, :])[better]
    return ((gaps > 0).sum() + (gaps == 0).sum() / 2).item(), gaps.numel()
