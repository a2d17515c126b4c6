"""The file of a WordPiece tokenizer: one JSON object, checked in full before it is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from tinylm.errors import DataError, shown
from tinylm.reading import checked, refusal
from tinylm.reading.shapes import Refuse
from tinylm.tokenizers import files
from tinylm.tokenizers.base import SPECIAL_TOKENS, read_special_tokens
from tinylm.tokenizers.bert_words import WordRule
from tinylm.tokenizers.wordpiece_training import CONTINUES

KIND = "wordpiece"


@dataclass(frozen=True)
class Content:
    """What a file says."""

    pieces: Sequence[str]
    """The vocabulary without the special tokens, in id order."""
    rule: WordRule = field(default_factory=WordRule)
    """How text is cut into words."""
    longest_word: int = 100
    """A word of more characters is unknown."""
    min_frequency: int | None = None
    """Count from which a pair was merged, kept for the record; None: it is not known."""
    special: tuple[str, ...] = ()
    """Special tokens beside the standard ones."""


class _Values(TypedDict):
    lowercase: bool
    strip_accents: bool
    longest_word: int
    min_frequency: int | None
    special_tokens: list[Any]
    vocabulary: list[str]


def check(content: Content, refuse: Refuse) -> None:
    """Refuse a vocabulary that cannot be used.

    Raises:
        TinylmError: ``refuse``'s, naming the first piece that does not fit.
    """
    if not content.pieces:
        raise refuse("the vocabulary holds no piece")
    if content.longest_word < 1:
        raise refuse(f"longest_word is {content.longest_word}, but 1 or more is needed")
    twice = next((piece for piece, count in Counter(content.pieces).items() if count > 1), None)
    if twice is not None:
        raise refuse(f"the vocabulary holds {shown(twice)} twice")
    names = {*SPECIAL_TOKENS, *content.special}
    for piece in content.pieces:
        if piece in names:
            raise refuse(f"the vocabulary holds {shown(piece)}, the name of a special token")
        if piece in ("", CONTINUES):
            raise refuse("the vocabulary holds a piece without a character")


def write(path: str | Path, content: Content) -> None:
    """Write a file by a temporary name and a rename.

    Raises:
        DataError: if it cannot be written.
    """
    values = {
        "lowercase": content.rule.lowercase,
        "strip_accents": content.rule.strip_accents,
        "longest_word": content.longest_word,
        "min_frequency": content.min_frequency,
        "special_tokens": list(content.special),
        "vocabulary": list(content.pieces),
    }
    files.write(path, KIND, values)


def read(path: str | Path) -> Content:
    """Read a file written by ``write``, and check all of it.

    Raises:
        DataError: if it is missing, malformed, changed or of another kind.
    """
    refuse = refusal(path, DataError, files.ADVICE)
    values = checked(_Values, files.read(path, KIND), refuse)
    content = Content(
        pieces=values["vocabulary"],
        rule=WordRule(values["lowercase"], values["strip_accents"]),
        longest_word=values["longest_word"],
        min_frequency=values["min_frequency"],
        special=read_special_tokens(values["special_tokens"], refuse),
    )
    check(content, refuse)
    return content
