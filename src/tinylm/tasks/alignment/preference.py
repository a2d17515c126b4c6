"""Learning from pairs of responses: the better one shall be likelier than the worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinylm.alignment.log_probabilities import token_log_probabilities
from tinylm.alignment.measuring import Measured
from tinylm.data.preferences import Ranking
from tinylm.data.windows import Batch, story_rows
from tinylm.errors import AlignmentError
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating
from tinylm.tasks.alignment.base import Aim, Alignment


@dataclass(frozen=True)
class Pair:
    """A prompt, a response, and a worse one."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]


@dataclass(frozen=True)
class Pairs:
    """Pairs of one batch: the better responses first, then the worse ones."""

    rows: Batch
    """(2 pairs, seq)."""
    start: Tensor
    """Log-probability of each response under the start, (2 pairs,)."""

    @property
    def num_targets(self) -> int:
        """Pairs."""
        return len(self.start) // 2

    @property
    def size(self) -> tuple[int, int] | None:
        """Rows and their tokens."""
        return self.rows.size

    def to(self, device: torch.device) -> Pairs:
        """Return them on a device."""
        return replace(self, rows=self.rows.to(device), start=self.start.to(device))


def pairs_of(rankings: Sequence[Ranking]) -> list[Pair]:
    """Return every two responses of which one is better."""
    return [
        Pair(ranking.prompt, ranking.responses[better], ranking.responses[worse])
        for ranking in rankings
        for better, worse in ranking.pairs()
    ]


class PreferenceAlignment(Alignment[Pairs]):
    """What DPO and its kin share: pairs, and the start's log-probabilities of them."""

    learns_from = "preferences"
    learning_rate = 1e-4
    steps = 200
    batch_size = 16

    def begin(self, aim: Aim) -> None:
        """Compute the start's log-probabilities once, for both splits."""
        assert aim.preferences is not None
        self.pairs = pairs_of(aim.preferences.train)
        self.held_out_pairs = pairs_of(aim.preferences.validation)
        self.longest = max(
            len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) - 1
            for pair in (*self.pairs, *self.held_out_pairs)
        )
        self._start_sums: dict[Pair, tuple[float, float]] = {}

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def batch(self, indices: npt.NDArray[np.int64]) -> Pairs:
        """Return pairs by their indices."""
        return self._batch([self.pairs[i] for i in indices])

    @torch.no_grad()
    def _batch(self, pairs: Sequence[Pair]) -> Pairs:
        texts = [(p.prompt, p.chosen) for p in pairs] + [(p.prompt, p.rejected) for p in pairs]
        rows = story_rows([[*a, *b] for a, b in texts], [len(a) for a, _ in texts])
        device = self.start.embedding.weight.device
        with evaluating(self.start):
            return Pairs(rows, token_log_probabilities(self.start, rows.to(device)).sum(1).cpu())

    def losses(self, sums: Tensor, start: Tensor) -> Tensor:
        """Return the loss of each pair, (pairs,).

        Args:
            sums: log-probability of each response, (2 pairs,), the better ones first.
            start: under the start.
        """
        raise NotImplementedError

    def loss(self, model: GenerativeModel, batch: Pairs) -> tuple[Tensor, int]:
        """Return the summed loss of pairs; see ``Task.loss``."""
        sums = token_log_probabilities(model, batch.rows).sum(1)
        return self.losses(sums, batch.start).sum(), batch.num_targets

    def held_out_loss(self, model: GenerativeModel, measured: Measured) -> float:
        """Return the mean loss of the held-out pairs."""
        if not self.held_out_pairs:
            raise AlignmentError("no preference is held out")
        total = 0.0
        for first in range(0, len(self.held_out_pairs), self.aim.batch_size):
            batch = self._batch(self.held_out_pairs[first : first + self.aim.batch_size])
            total += self.loss(model, batch.to(model.embedding.weight.device))[0].item()
        return total / len(self.held_out_pairs)

    def measures(self) -> Mapping[str, float]:
        """Return nothing yet."""
        return {}
