"""What an instruction demands of a response, where that can be measured by rules over its words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tinylm.alignment.rules.dialogue import Dialogue
from tinylm.alignment.rules.happy_end import HappyEnd
from tinylm.alignment.rules.sad_end import SadEnd
from tinylm.alignment.self_instruct.records import normal
from tinylm.config.rules import DialogueConfig, HappyEndConfig, SadEndConfig

_WORD = re.compile(r"[a-z0-9]+")
_MARKS = re.compile('["“”]')
_END = 1
"""Sentences that are the end of a story."""


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return _WORD.findall(text.lower())


def uses(values: tuple[str, ...], response: str, finished: bool) -> bool:
    """Whether every one of the words is there; of ``toy car``, both, one after the other."""
    text = f" {' '.join(words_of(response))} "
    return all(f" {' '.join(words_of(value))} " in text for value in values)


def speaks(values: tuple[str, ...], response: str, finished: bool) -> bool:
    """Whether somebody speaks."""
    return Dialogue(DialogueConfig(least_words=0)).score("", response, finished) == 1


def is_silent(values: tuple[str, ...], response: str, finished: bool) -> bool:
    """Whether there are words, and no quotation mark."""
    return bool(words_of(response)) and not _MARKS.search(response)


def ends_happily(values: tuple[str, ...], response: str, finished: bool) -> bool:
    """Whether it is ended, and happily."""
    rule = HappyEnd(HappyEndConfig(sentences=_END, least_words=0))
    return rule.score("", response, finished) == 1


def ends_sadly(values: tuple[str, ...], response: str, finished: bool) -> bool:
    """Whether it is ended, and sadly."""
    rule = SadEnd(SadEndConfig(sentences=_END, least_words=0))
    return rule.score("", response, finished) == 1


def begins(values: tuple[str, ...], response: str, finished: bool) -> bool:
    """Whether the first words are those of a sentence."""
    wanted = words_of(values[0])
    return bool(wanted) and words_of(response)[: len(wanted)] == wanted


def answers(values: tuple[str, ...], response: str, finished: bool) -> bool:
    """Whether it is the one right answer and nothing else."""
    return finished and normal(response) == normal(values[0])


Check = Callable[[tuple[str, ...], str, bool], bool]
CHECKS: Mapping[str, Check] = {
    "words": uses,
    "dialogue": speaks,
    "no dialogue": is_silent,
    "happy end": ends_happily,
    "sad end": ends_sadly,
    "first sentence": begins,
    "answer": answers,
}


@dataclass(frozen=True)
class Demand:
    """One thing that an instruction demands."""

    check: str
    """A name of ``CHECKS``."""
    values: tuple[str, ...] = ()
    """The words, the sentence or the answer."""

    def met(self, response: str, finished: bool) -> bool:
        """Whether a response does what is demanded.

        Args:
            response: what was written after the prompt.
            finished: whether it was ended; else it was cut off.
        """
        return CHECKS[self.check](self.values, response, finished)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"check": self.check, "values": list(self.values)}
