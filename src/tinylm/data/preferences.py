"""Rankings of responses to a prompt: what people, or a rule, like better."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Ranking:
    """A prompt and two or more responses to it, as token ids, and how they rank."""

    prompt: tuple[int, ...]
    """``<sos>`` first."""
    responses: tuple[tuple[int, ...], ...]
    """Each with ``<eos>`` at its end, unless it was cut off."""
    ranks: tuple[int, ...]
    """Of each response: 0 for the best, the same number for a tie."""

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield ``(better, worse)`` for every two responses that are no tie, by their indices."""
        for i, better in enumerate(self.ranks):
            for j, worse in enumerate(self.ranks):
                if better < worse:
                    yield i, j


@dataclass(frozen=True)
class Preferences:
    """Rankings of both splits."""

    train: tuple[Ranking, ...]
    validation: tuple[Ranking, ...]
    source: str
    """Fingerprint of both splits."""
