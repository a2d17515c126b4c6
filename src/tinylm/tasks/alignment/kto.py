"""Kahneman-Tversky optimisation (Ethayarajh et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinylm.alignment.log_probabilities import Text, text_rows, token_log_probabilities
from tinylm.alignment.measuring import Measured
from tinylm.alignment.preference_losses import kto_loss
from tinylm.alignment.start_sums import StartSums
from tinylm.config import TrainingConfig
from tinylm.config.preference_alignment import KTOConfig
from tinylm.data.preferences import Ranking
from tinylm.data.windows import Batch
from tinylm.model.base import GenerativeModel
from tinylm.tasks.alignment.base import Aim, Alignment
from tinylm.tasks.alignment.preference import lacking, longest_text, ranked_within, refuse_none

_MOST_SHIFTS = 64


@dataclass(frozen=True)
class Judged:
    """A response by itself, which is good or bad."""

    text: Text
    desirable: bool


@dataclass(frozen=True)
class Judgements:
    """Responses of one batch."""

    rows: Batch
    """(responses, seq)."""
    start: Tensor
    """Log-probability of each response under the start, (responses,)."""
    desirable: Tensor
    """Whether each is good, (responses,)."""
    mismatched: Batch
    """Each prompt with a response to another one, (responses, seq)."""
    mismatched_start: Tensor
    """Log-probability of those responses under the start, (responses,)."""

    @property
    def num_targets(self) -> int:
        """Responses."""
        return len(self.start)

    @property
    def size(self) -> tuple[int, int] | None:
        """Rows and their tokens."""
        return self.rows.size

    def to(self, device: torch.device) -> Judgements:
        """Return them on a device."""
        return replace(self, **{name: part.to(device) for name, part in vars(self).items()})


def judged(rankings: Sequence[Ranking]) -> list[Judged]:
    """Return responses by themselves: good ones are better than more responses than they are worse.

    Those of which neither is so are left out.
    """
    made = []
    for ranking in rankings:
        wins = [0] * len(ranking.responses)
        for better, worse in ranking.pairs():
            wins[better] += 1
            wins[worse] -= 1
        made += [
            Judged((ranking.prompt, response), won > 0)
            for response, won in zip(ranking.responses, wins, strict=True)
            if won
        ]
    return made


def mismatched(examples: Sequence[Judged], room: int) -> list[Text]:
    """Return each example's prompt with the response of another.

    All responses are moved on by one number of places, so that each is there once: the smallest
    number that brings the fewest of them to a prompt of their own.

    Args:
        examples: two at least.
        room: tokens of prompt and response together, to which a response is cut.
    """
    prompts = [example.text[0] for example in examples]

    def matches(shift: int) -> int:
        return sum(a == b for a, b in zip(prompts, _moved(prompts, shift), strict=True))

    shift = min(range(1, min(len(examples), _MOST_SHIFTS + 1)), key=matches)
    responses = _moved([example.text[1] for example in examples], shift)
    return [(a, b[: room - len(a)]) for a, b in zip(prompts, responses, strict=True)]


def _moved(values: Sequence[tuple[int, ...]], shift: int) -> list[tuple[int, ...]]:
    return [*values[-shift:], *values[:-shift]]


def weights_of(settings: KTOConfig, good: int, bad: int) -> tuple[float, float]:
    """Return the weights of good and of bad responses, of which there are so many.

    Where nothing else is set, both kinds weigh the same in all: the lower end of what the paper
    advises (section 4.2, equation 9). Else the more frequent kind, of which it is enough to make
    all responses unlikely, wins.
    """
    undesirable = settings.undesirable_weight
    desirable = settings.desirable_weight
    return (undesirable * bad / good if desirable is None else desirable), undesirable


class KTO(Alignment[Judgements]):
    """Responses that are good or bad by themselves: no two need to answer the same prompt.

    What is gained or lost is measured from a baseline, the KL divergence of the policy from the
    start. Its estimate (section 4.1) are the log ratios of responses that answer another prompt:
    every example has one such response, always the same, so that the start reads it once.
    """

    Settings = KTOConfig
    label = "KTO"
    noun = "Kahneman-Tversky optimisation"
    explanation = (
        "*KTO* [[ethayarajh2024]] needs no pairs: the log-ratio of a good response shall be above "
        "the divergence from the start, that of a bad one below it, each with less force the "
        "farther it is."
    )
    learns_from = "preferences"
    learning_rate = 3e-5
    steps = 200
    batch_size = 32

    def begin(self, aim: Aim) -> None:
        """Take the responses of both splits.

        Raises:
            AlignmentError: if a split has no response that is better than another.
        """
        assert aim.preferences is not None
        self.examples = judged(aim.preferences.train)
        self.held_out = judged(aim.preferences.validation)
        refuse_none(self.examples, self.held_out)
        room = self.start.config.context_length + 1  # the last token is not read
        good = sum(example.desirable for example in self.examples)
        self.weights = weights_of(self.settings, good, len(self.examples) - good)
        self._others = mismatched(self.examples, room)
        self._held_out_others = mismatched(self.held_out, room)
        own = [example.text for example in (*self.examples, *self.held_out)]
        texts = [*own, *self._others, *self._held_out_others]
        self.longest = longest_text(texts)
        self.start_sums = StartSums(self.start, texts)

    @classmethod
    def with_budget(
        cls, settings: Any, training: TrainingConfig, tokens: int, length: float
    ) -> tuple[Any, TrainingConfig]:
        """Return settings by which so many tokens are ranked; see ``Alignment.with_budget``."""
        return ranked_within(settings, training, tokens, length, settings.responses)

    def __len__(self) -> int:
        """Return the number of responses."""
        return len(self.examples)

    def batch(self, indices: npt.NDArray[np.int64]) -> Judgements:
        """Return responses by their indices."""
        return self._batch(self.examples, self._others, [int(i) for i in indices])

    def _batch(
        self, examples: Sequence[Judged], others: Sequence[Text], indices: Sequence[int]
    ) -> Judgements:
        assert self.start_sums is not None
        own, other = [examples[i].text for i in indices], [others[i] for i in indices]
        return Judgements(
            text_rows(own),
            self.start_sums.of(own),
            torch.tensor([examples[i].desirable for i in indices]),
            text_rows(other),
            self.start_sums.of(other),
        )

    def loss(self, model: GenerativeModel, batch: Judgements) -> tuple[Tensor, int]:
        """Return the summed loss of responses; see ``Task.loss``."""
        baseline = self._gains(model, batch).mean().clamp(min=0)
        ratios = _ratios(model, batch.rows, batch.start)
        self._measures = self._measured(ratios.detach(), batch.start, batch.desirable, baseline)
        return self._losses(ratios, batch.desirable, baseline).sum(), batch.num_targets

    @torch.no_grad()
    def _gains(self, model: GenerativeModel, batch: Judgements) -> Tensor:
        """Return the log ratios of the mismatched responses, (responses,)."""
        return _ratios(model, batch.mismatched, batch.mismatched_start)

    def _losses(self, ratios: Tensor, desirable: Tensor, baseline: Tensor) -> Tensor:
        return kto_loss(ratios, desirable, baseline, self.settings.beta, *self.weights)

    def _measured(
        self, ratios: Tensor, start: Tensor, desirable: Tensor, baseline: Tensor
    ) -> dict[str, float]:
        """Return what responses are measured by; a kind of which there are none counts as 0."""
        rewards = self.settings.beta * (ratios - baseline)

        def mean(values: Tensor, kind: Tensor) -> float:
            return float(values[kind].sum()) / max(1, int(kind.sum()))

        chosen, rejected = mean(rewards, desirable), mean(rewards, ~desirable)
        return {
            "margin": chosen - rejected,
            "accuracy": float(((rewards > 0) == desirable).double().mean()),
            "chosen": chosen,
            "rejected": rejected,
            "log p chosen": mean(ratios + start, desirable),
            "baseline": float(baseline),
        }

    @torch.no_grad()
    def held_out_loss(self, model: GenerativeModel, measured: Measured) -> float:
        """Return the mean loss of the held-out responses, with one baseline for all.

        Or less their reward, if it is known.
        """
        device, size = model.embedding.weight.device, self.aim.batch_size
        ratios, starts, gains = [], [], []
        for first in range(0, len(self.held_out), size):
            indices = range(first, min(first + size, len(self.held_out)))
            batch = self._batch(self.held_out, self._held_out_others, indices).to(device)
            ratios.append(_ratios(model, batch.rows, batch.start))
            starts.append(batch.start)
            gains.append(self._gains(model, batch))
        every = torch.cat(ratios)
        baseline = torch.cat(gains).mean().clamp(min=0)
        desirable = torch.tensor([each.desirable for each in self.held_out], device=device)
        self._held_out_measures = self._measured(every, torch.cat(starts), desirable, baseline)
        loss = float(self._losses(every, desirable, baseline).mean())
        self._held_out_measures["preference loss"] = loss
        return lacking(measured, loss)


def _ratios(model: GenerativeModel, rows: Batch, start: Tensor) -> Tensor:
    """Return the log-probability of responses less that under the start, (responses,)."""
    sums = token_log_probabilities(model, rows).sum(1)
    return sums - start.to(sums.dtype)
