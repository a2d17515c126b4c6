"""Rewards that can be measured: rules over the words of a text, one a file, registry RULES.

The true reward of a story is then known, without people: what a reward model has learned, and how
far a policy has gone, can be compared with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from tinylm.alignment.samples import Sample
from tinylm.errors import AlignmentError
from tinylm.tokenizers.base import Tokenizer


class Rule(Protocol):
    """One rule: what the entries of the registry RULES are."""

    Settings: ClassVar[type]
    """The frozen dataclass of its settings."""
    label: ClassVar[str]
    """Its name in a table or a figure."""
    noun: ClassVar[str]
    """What it asks of a story, in a sentence: ``stories that end happily``."""
    explanation: ClassVar[str]
    """A sentence of the report, as inline markup: how it is measured."""

    def __init__(self, settings: Any) -> None:
        """Take its settings."""
        ...

    def score(self, prompt: str, response: str, finished: bool) -> float:
        """Return how well a response obeys, from 0 (not at all) to 1 (perfectly).

        Args:
            prompt: the text that it goes on with.
            response: as it stands after the prompt.
            finished: whether the model ended it; else it was cut off.
        """
        ...


class RuleReward:
    """A rule as a reward of samples."""

    def __init__(self, rule: Rule, tokenizer: Tokenizer) -> None:
        self.rule = rule
        self.tokenizer = tokenizer
        self.label = rule.label

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """Return the score of each sample, in [0, 1]."""
        scores = []
        for sample in samples:
            prompt = self.tokenizer.decode(list(sample.prompt))
            whole = self.tokenizer.decode([*sample.prompt, *sample.ids])
            score = self.rule.score(prompt, whole[len(prompt) :].strip(), sample.finished)
            if not math.isfinite(score):
                raise AlignmentError(f"the rule {self.label} gives {score:g} to a story")
            scores.append(score)
        return scores
