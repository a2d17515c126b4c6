"""A story that ends happily: the last word of feeling in its last sentences is one of joy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tinylm.alignment.rules.texts import long_enough, sentences, words
from tinylm.config.rules import HappyEndConfig

JOY = frozenset(
    words("""
    happy happier happily happiness glad joy joyful joyfully cheerful jolly merry pleased proud
    proudly smile smiles smiled smiling grin grins grinned grinning laugh laughs laughed laughing
    laughter giggled hug hugs hugged hugging fun cheered clapped celebrated delighted excited enjoy
    enjoyed enjoying love loves loved thankful grateful safe friend friends wonderful great
    """)
)
SORROW = frozenset(
    words("""
    sad sadder sadly sadness cry cries cried crying weep wept weeping tears angry angrily upset hurt
    lost scared afraid frightened terrified fear lonely sorry worried unhappy miserable ashamed
    missed regretted died dead sick
    """)
)
_NOT_SO = frozenset(words("not never no without nobody if when whenever"))
_REACH = 3
"""Words that ``not`` and its like act on."""
_CLOSINGS = (["remember"], ["the", "end"], ["the", "moral"], ["the", "lesson"])
_LEARNED = (
    *(("learned", "that"), ("never", "forgot"), ("always", "remembered")),
    *(("now", "knew"), ("knew", "now")),
)
_START = 5
"""First words of a sentence among which those above stand: ``And so Tom had learned that``."""


class HappyEnd:
    """Ends happily."""

    Settings = HappyEndConfig
    label = "happy end"
    noun = "stories that end happily"
    explanation = (
        "A story *ends happily* if it is ended, not cut off, and the last word of feeling in its "
        "last sentences is one of joy. A moral is no part of the end; a word after *not*, *never*, "
        "*if* or *when*, and what a *but* takes back, do not count."
    )

    def __init__(self, settings: HappyEndConfig) -> None:
        self.settings = settings

    def score(self, prompt: str, response: str, finished: bool) -> float:
        """Return 1 or 0, or a share of 1 for a short story; see ``Rule.score``."""
        return end_score(response, finished, self.settings, joy=True)


def end_score(response: str, finished: bool, settings: HappyEndConfig, joy: bool) -> float:
    """Return 1 for a story that ends in joy, or in sorrow, a share of 1 for a short one, or 0.

    Args:
        response: the story.
        finished: whether the model ended it.
        settings: what its end is, and what is short.
        joy: which end is wanted.
    """
    parts = sentences(response)
    if not finished or last_feeling(parts, settings.sentences) is not joy:
        return 0.0
    return long_enough(sum(map(len, parts)), settings.least_words)


def last_feeling(parts: Sequence[list[str]], count: int) -> bool | None:
    """Return whether the last word of feeling is one of joy, or None: there is none.

    Args:
        parts: the words of each sentence of a story.
        count: sentences that are its end, a moral left out.
    """
    end = [each for each in parts if not _is_moral(each)][-count:]
    feelings = [feeling for each in end for feeling in _feelings(each)]
    return feelings[-1] if feelings else None


def _feelings(sentence: Sequence[str]) -> list[bool]:
    """Return of each word of feeling that counts whether it is one of joy."""
    after_but = max((i for i, word in enumerate(sentence) if word == "but"), default=-1) + 1
    counted = sentence[after_but:]
    return [
        word in JOY
        for i, word in enumerate(counted)
        if word in JOY | SORROW and not any(map(_turns, counted[max(0, i - _REACH) : i]))
    ]


def _turns(word: str) -> bool:
    return word in _NOT_SO or word.endswith("n't")


def _is_moral(sentence: list[str]) -> bool:
    """Whether a sentence closes a story and tells nothing of its end."""
    if any(sentence[: len(closing)] == closing for closing in _CLOSINGS):
        return True
    return any(pair in _LEARNED for pair in itertools.pairwise(sentence[:_START]))
