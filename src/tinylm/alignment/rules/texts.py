"""Words and sentences as the rules count them: by the text alone, whatever the tokenizer is."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_END = re.compile(r"[.!?…]+[\"'”’)]*(?:\s+|$)|\n\s*\n")


def words(text: str) -> list[str]:
    """Return the words of a text in lower case: letters, with apostrophes and hyphens inside."""
    return [word.replace("’", "'") for word in _WORD.findall(text.lower())]


def sentences(text: str) -> list[list[str]]:
    """Return the words of each sentence that has one.

    A sentence ends by a stop, a mark of exclamation or a question mark before a space, or by an
    empty line.
    """
    return [each for part in _END.split(text) if (each := words(part))]


def long_enough(count: int, least: int) -> float:
    """Return what so many words are of the least, at most 1.

    A rule that a word or two obey would otherwise be obeyed by nothing else.
    """
    return min(1.0, count / least) if least else 1.0
