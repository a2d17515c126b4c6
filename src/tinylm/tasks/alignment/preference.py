"""Learning from pairs of responses: the better one shall be likelier than the worse.

A ranking is one example: each of its responses is read once, and its loss is the mean over all
pairs of which one is better (Ouyang et al. 2022, section 3.5), so that a long ranking counts as
much as a short one.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinylm.alignment.log_probabilities import Text, text_rows, token_log_probabilities
from tinylm.alignment.measuring import Measured
from tinylm.alignment.start_sums import StartSums
from tinylm.config import TrainingConfig
from tinylm.data.preferences import Ranking
from tinylm.data.windows import IGNORED, Batch
from tinylm.errors import AlignmentError
from tinylm.model.base import GenerativeModel
from tinylm.tasks.alignment.base import Aim, Alignment

_PASSES = 3


@dataclass(frozen=True)
class Comparison:
    """A ranking without the responses that are neither better nor worse than another."""

    texts: tuple[Text, ...]
    pairs: tuple[tuple[int, int], ...]
    """Better and worse, by their places in ``texts``."""


@dataclass(frozen=True)
class Comparisons:
    """Rankings of one batch."""

    rows: Batch
    """Every response once, (responses, seq)."""
    start: Tensor
    """Log-probability of each response under the start, (responses,)."""
    better: Tensor
    """Row of the better response of each pair, (pairs,)."""
    worse: Tensor
    """Row of the worse one."""
    weights: Tensor
    """Of each pair; those of a ranking sum to 1."""
    num_targets: int
    """Rankings."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Rows and their tokens."""
        return self.rows.size

    def to(self, device: torch.device) -> Comparisons:
        """Return them on a device."""
        moved = {n: getattr(self, n).to(device) for n in ("start", "better", "worse", "weights")}
        return replace(self, rows=self.rows.to(device), **moved)


@dataclass(frozen=True)
class Responses:
    """What a loss is made of: the responses of a batch, (responses,) each."""

    sums: Tensor
    """Log-probability under the policy, summed over tokens, in nats; with a gradient."""
    start: Tensor
    """Under the start."""
    lengths: Tensor
    """Tokens of each that are predicted."""

    @property
    def ratios(self) -> Tensor:
        """Log-probability under the policy less that under the start."""
        return self.sums - self.start


def compared(rankings: Sequence[Ranking]) -> list[Comparison]:
    """Return the rankings in which one response at least is better than another."""
    made = []
    for ranking in rankings:
        pairs = list(ranking.pairs())
        places = {i: place for place, i in enumerate(sorted({i for pair in pairs for i in pair}))}
        if pairs:
            made.append(
                Comparison(
                    tuple((ranking.prompt, ranking.responses[i]) for i in places),
                    tuple((places[better], places[worse]) for better, worse in pairs),
                )
            )
    return made


def refuse_none(train: Sequence[object], validation: Sequence[object]) -> None:
    """Refuse splits of which one has nothing to learn from.

    Raises:
        AlignmentError: naming the split.
    """
    for name, split in (("training", train), ("validation", validation)):
        if not split:
            raise AlignmentError(
                f"no {name} ranking has two responses of which one is better: give more preferences"
            )


def lacking(measured: Measured, loss: float) -> float:
    """Return what is to be made small: less the reward where there is one, else the loss.

    A preference is about whole texts, and most of what tells two of them apart is chance: the
    held-out loss is lowest long before the reward, which is what was asked for, is highest.
    """
    reward = measured.mean_reward
    return loss if reward is None else -reward


def longest_text(texts: Sequence[Text]) -> int:
    """Return the tokens of the longest text that a model reads."""
    return max(len(prompt) + len(response) - 1 for prompt, response in texts)


def ranked_within(
    settings: Any, training: TrainingConfig, tokens: int, length: float, examples: int = 1
) -> tuple[Any, TrainingConfig]:
    """Return settings by which so many tokens of own samples are ranked and learned from.

    The rankings are gone through three times at most: they are learned by heart soon after.

    Args:
        settings: ``PreferenceConfig``'s.
        training: of the training; fewer steps are taken where that is enough.
        tokens: of all responses.
        length: mean tokens of a response.
        examples: that are made of a ranking.
    """
    prompts = max(2, round(tokens / (settings.responses * length)))
    of_a_step = training.batch_size * training.accumulation_steps
    enough = math.ceil(_PASSES * prompts * examples / of_a_step)
    steps = min(training.max_steps or enough, enough)
    return replace(settings, ranked_prompts=prompts), replace(training, max_steps=steps)


class PreferenceAlignment(Alignment[Comparisons]):
    """What DPO, IPO and SimPO share: pairs, and the start's log-probabilities of them."""

    learns_from = "preferences"
    learning_rate = 1e-4
    steps = 200
    batch_size = 4
    reads_start: ClassVar[bool] = True
    """Whether the loss needs the start's log-probabilities."""

    def begin(self, aim: Aim) -> None:
        """Take the rankings of both splits.

        Raises:
            AlignmentError: if a split has no two responses of which one is better.
        """
        assert aim.preferences is not None
        self.comparisons = compared(aim.preferences.train)
        self.held_out = compared(aim.preferences.validation)
        refuse_none(self.comparisons, self.held_out)
        texts = [text for each in (*self.comparisons, *self.held_out) for text in each.texts]
        self.longest = longest_text(texts)
        if self.reads_start:
            self.start_sums = StartSums(self.start, texts)

    @classmethod
    def with_budget(
        cls, settings: Any, training: TrainingConfig, tokens: int, length: float
    ) -> tuple[Any, TrainingConfig]:
        """Return settings by which so many tokens are ranked; see ``Alignment.with_budget``."""
        return ranked_within(settings, training, tokens, length)

    def __len__(self) -> int:
        """Return the number of rankings."""
        return len(self.comparisons)

    def batch(self, indices: npt.NDArray[np.int64]) -> Comparisons:
        """Return rankings by their indices."""
        return self._batch([self.comparisons[i] for i in indices])

    def _batch(self, comparisons: Sequence[Comparison]) -> Comparisons:
        texts: list[Text] = []
        pairs: list[tuple[int, int, float]] = []
        for each in comparisons:
            first, weight = len(texts), 1 / len(each.pairs)
            texts += each.texts
            pairs += [(first + better, first + worse, weight) for better, worse in each.pairs]
        better, worse, weights = zip(*pairs, strict=True)
        return Comparisons(
            text_rows(texts),
            torch.zeros(len(texts)) if self.start_sums is None else self.start_sums.of(texts),
            torch.tensor(better),
            torch.tensor(worse),
            torch.tensor(weights, dtype=torch.float64),
            len(comparisons),
        )

    @abstractmethod
    def implicit_rewards(self, responses: Responses) -> Tensor:
        """Return what the policy takes each response to be worth, (responses,)."""

    @abstractmethod
    def losses(self, responses: Responses, better: Tensor, worse: Tensor) -> Tensor:
        """Return the loss of each pair, (pairs,).

        Args:
            responses: of the batch.
            better: row of the better response of each pair, (pairs,).
            worse: of the worse one.
        """

    def loss(self, model: GenerativeModel, batch: Comparisons) -> tuple[Tensor, int]:
        """Return the summed loss of rankings; see ``Task.loss``."""
        loss, self._measures = self._measured(model, batch)
        return loss, batch.num_targets

    def _measured(
        self, model: GenerativeModel, batch: Comparisons
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the summed loss of rankings, and what their pairs were measured by."""
        sums = token_log_probabilities(model, batch.rows).sum(1)  # (responses,)
        lengths = (batch.rows.labels != IGNORED).sum(1)
        responses = Responses(sums, batch.start.to(sums.dtype), lengths)
        losses = self.losses(responses, batch.better, batch.worse)  # (pairs,)
        weights = batch.weights.to(sums.dtype)
        with torch.no_grad():
            rewards = self.implicit_rewards(responses)
            better, worse = rewards[batch.better], rewards[batch.worse]
            each = {
                "margin": better - worse,
                "accuracy": (better > worse).to(sums.dtype),
                "chosen": better,
                "rejected": worse,
                "log p chosen": sums[batch.better],
            }
            measures = {
                name: float((weights * value).sum()) / batch.num_targets
                for name, value in each.items()
            }
        return (losses * weights).sum(), measures

    @torch.no_grad()
    def held_out_loss(self, model: GenerativeModel, measured: Measured) -> float:
        """Return the mean loss of the held-out rankings, or less their reward, if it is known."""
        total, device = 0.0, model.embedding.weight.device
        measures: dict[str, float] = {}
        for first in range(0, len(self.held_out), self.aim.batch_size):
            batch = self._batch(self.held_out[first : first + self.aim.batch_size])
            loss, of_batch = self._measured(model, batch.to(device))
            total += float(loss)
            for name, value in of_batch.items():
                measures[name] = measures.get(name, 0.0) + value * batch.num_targets
        mean = total / len(self.held_out)
        self._held_out_measures = {n: value / len(self.held_out) for n, value in measures.items()}
        self._held_out_measures["preference loss"] = mean
        return lacking(measured, mean)
