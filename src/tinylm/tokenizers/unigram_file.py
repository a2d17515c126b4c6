"""The file of a unigram tokenizer: one JSON object, checked in full before it is used."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from tinylm.errors import DataError, shown
from tinylm.reading import checked, refusal
from tinylm.reading.shapes import Refuse
from tinylm.tokenizers import files
from tinylm.tokenizers.base import SPECIAL_TOKENS, read_special_tokens
from tinylm.tokenizers.metaspace import Metaspace
from tinylm.tokenizers.splitting import RULES

KIND = "unigram"
METASPACE = "metaspace"
"""The rule of a tokenizer that writes spaces as ``▁``."""
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""The names of the bytes that unknown characters become."""
UNKNOWN_PENALTY = 10.0
"""An unknown character's log-probability is that of the rarest piece less this."""


@dataclass(frozen=True)
class Content:
    """What a file says."""

    split: str
    """Rule by which text is cut into words: of ``splitting.RULES``, or ``METASPACE``."""
    byte_fallback: bool
    """Whether unknown characters become bytes, else ``<unk>``."""
    pieces: Mapping[str, float]
    """Log-probability of each piece, in id order."""
    unknown_score: float
    """Log-probability of an unknown character."""
    min_frequency: int | None = None
    """Count from which characters and substrings could be pieces, kept for the record; None: it is
    not known."""
    special: tuple[str, ...] = ()
    """Special tokens beside the standard ones."""
    spaces: Metaspace | None = None
    """How spaces are written where the rule is ``METASPACE``."""


class _Spaces(TypedDict):
    prepend: Literal["always", "first", "never", "added"]
    cut: bool
    at_white_space: bool
    dropped: Literal["marks", "space", "nothing"]


class _Values(TypedDict):
    split: str
    byte_fallback: bool
    unknown_score: float
    min_frequency: int | None
    special_tokens: list[Any]
    spaces: NotRequired[_Spaces]
    pieces: list[str]
    scores: list[float]


def unknown_score(scores: Sequence[float]) -> float:
    """Return the log-probability of an unknown character beside pieces with these."""
    return min(scores) - UNKNOWN_PENALTY


def check(content: Content, refuse: Refuse) -> None:
    """Refuse pieces and scores that cannot be used.

    Raises:
        TinylmError: ``refuse``'s, naming the first piece that does not fit.
    """
    if content.split not in (*RULES, METASPACE):
        known = " or ".join((*RULES, METASPACE))
        raise refuse(f"split is {shown(content.split)}, but {known} is needed")
    if (content.split == METASPACE) != (content.spaces is not None):
        raise refuse(f"spaces belongs to the rule {METASPACE}, and that to it: split and spaces")
    spaces = content.spaces
    if spaces is not None and spaces.prepend == "added" and (spaces.cut or spaces.at_white_space):
        raise refuse("spaces.prepend is 'added', but then texts are one word: nothing else cuts")
    if not content.pieces:
        raise refuse("the vocabulary holds no piece")
    names = {*SPECIAL_TOKENS, *content.special}
    names |= {*BYTES} if content.byte_fallback else set()
    for piece, score in content.pieces.items():
        if not piece:
            raise refuse("the vocabulary holds an empty piece")
        if piece in names:
            raise refuse(f"the vocabulary holds {shown(piece)}, the name of another token")
        if not math.isfinite(score):
            raise refuse(f"the score of the piece {shown(piece)} is not a finite number")
    if not content.unknown_score < 0:
        raise refuse("unknown_score is not a number below 0")


def of_pairs(pieces: Sequence[str], scores: Sequence[float], refuse: Refuse) -> dict[str, float]:
    """Return pieces and their scores together.

    Raises:
        TinylmError: ``refuse``'s, if a piece stands there twice or the numbers differ.
    """
    if len(pieces) != len(scores):
        raise refuse(f"there are {len(pieces)} pieces and {len(scores)} scores")
    twice = next((piece for piece, count in Counter(pieces).items() if count > 1), None)
    if twice is not None:
        raise refuse(f"the vocabulary holds {shown(twice)} twice")
    return dict(zip(pieces, map(float, scores), strict=True))


def write(path: str | Path, content: Content) -> None:
    """Write a file by a temporary name and a rename.

    Raises:
        DataError: if it cannot be written.
    """
    values: dict[str, Any] = {
        "split": content.split,
        "byte_fallback": content.byte_fallback,
        "unknown_score": content.unknown_score,
        "min_frequency": content.min_frequency,
        "special_tokens": list(content.special),
        "pieces": list(content.pieces),
        "scores": list(content.pieces.values()),
    }
    if content.spaces is not None:
        values["spaces"] = asdict(content.spaces)
    files.write(path, KIND, values)


def read(path: str | Path) -> Content:
    """Read a file written by ``write``, and check all of it.

    Raises:
        DataError: if it is missing, malformed, changed or of another kind.
    """
    refuse = refusal(path, DataError, files.ADVICE)
    values = checked(_Values, files.read(path, KIND), refuse)
    spaces = values.get("spaces")
    content = Content(
        split=values["split"],
        byte_fallback=values["byte_fallback"],
        pieces=of_pairs(values["pieces"], values["scores"], refuse),
        unknown_score=values["unknown_score"],
        min_frequency=values["min_frequency"],
        special=read_special_tokens(values["special_tokens"], refuse),
        spaces=None if spaces is None else Metaspace(**spaces),
    )
    check(content, refuse)
    return content
