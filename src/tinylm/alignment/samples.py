"""A response that a model gave to a prompt, and what says how good one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tinylm.tokenizers.base import EOS_ID


@dataclass(frozen=True)
class Sample:
    """A prompt and what was written after it."""

    prompt: tuple[int, ...]
    """``<sos>`` first."""
    ids: tuple[int, ...]
    """The response, ``<eos>`` left out."""
    finished: bool
    """Whether ``<eos>`` ended it; else it was cut off."""

    @property
    def response(self) -> tuple[int, ...]:
        """The tokens whose probabilities count: the response, and ``<eos>`` where it has ended."""
        return (*self.ids, EOS_ID) if self.finished else self.ids

    @property
    def text(self) -> tuple[int, ...]:
        """Prompt and response."""
        return (*self.prompt, *self.response)


class Reward(Protocol):
    """Says how good responses are: a rule over their words, or a model of people's preferences."""

    label: str
    """Its name in a table or a figure."""

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """Return the reward of each sample; the best that can be is the highest.

        Raises:
            AlignmentError: if one is not finite.
        """
        ...
