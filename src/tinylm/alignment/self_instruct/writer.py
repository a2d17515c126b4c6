"""Who writes: a model of a run, or one behind an address. The steps know this protocol alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Written:
    """What a writer answered."""

    text: str
    finished: bool
    """Whether the writer ended it; else it was cut off at the limit."""


@dataclass(frozen=True)
class Request:
    """How answers are to be written."""

    most: int | None
    """Tokens; None: what the writer's context holds."""
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...] = ()
    """Texts before which an answer ends."""


class Writer(Protocol):
    """Answers prompts."""

    needs_examples: bool
    """Whether it must be shown how a task is judged and worked out; one that was tuned on the
    prompts needs nothing."""
    repeatable: bool
    """Whether the same prompts and request give the same answers."""

    def describe(self) -> dict[str, Any]:
        """Return what it is, as JSON values; no secret is in it."""
        ...

    def fits(self, prompt: str, most: int | None) -> bool:
        """Whether it can read a prompt and write so many tokens after it."""
        ...

    def write(
        self,
        prompts: Sequence[str],
        request: Request,
        progress: Callable[[float], None] = lambda share: None,
    ) -> list[Written]:
        """Return an answer to each prompt, in order.

        Args:
            prompts: texts that fit.
            request: how.
            progress: called with the share that is done.

        Raises:
            AlignmentError: if it cannot be asked, or what it sends cannot be read.
        """
        ...


def cut(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Return a text up to the first of some texts, and whether one of them stands there."""
    places = [place for mark in stop if (place := text.find(mark)) >= 0]
    return (text[: min(places)], True) if places else (text, False)
