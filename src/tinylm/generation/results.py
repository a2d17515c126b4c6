"""What generation needs to know of the vocabulary, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SpecialIds:
    """The ids that generation must know."""

    pad: int
    sos: int
    eos: int
    unk: int


@dataclass(frozen=True)
class Generated:
    """What was generated for one prompt."""

    ids: list[int]
    """The new ids, ``<eos>`` left out."""
    finished: bool
    """Whether ``<eos>`` ended it, rather than the maximum length."""
    log_probability: float
    """Sum of log-probabilities of the new tokens (``<eos>`` included) under the model itself."""
    slid: bool
    """Whether the text outgrew the context, so that its beginning was no longer seen."""
    score: float | None = None
    """What a search ranked it by, the length-normalised sum; None if a chooser made it."""
    alternatives: tuple[Generated, ...] = ()
    """The next best hypotheses of a search, best first; a chooser has none."""


def slides(prompt_length: int, num_new: int, finished: bool, context_length: int) -> bool:
    """Return whether the last prediction needed more tokens than the context holds.

    Args:
        prompt_length: tokens of the prompt.
        num_new: tokens generated, ``<eos>`` left out.
        finished: whether an ``<eos>`` was predicted after them.
        context_length: most tokens that the model sees.
    """
    return prompt_length + num_new - (not finished) > context_length
