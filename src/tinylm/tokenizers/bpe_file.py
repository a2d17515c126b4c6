"""The file of a BPE tokenizer: one JSON object, checked in full before it is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict
from typing_extensions import TypedDict

from tinylm.errors import DataError, shown
from tinylm.reading import checked, refusal
from tinylm.reading.shapes import Refuse
from tinylm.tokenizers import byte_letters, files
from tinylm.tokenizers.base import SPECIAL_TOKENS, read_special_tokens
from tinylm.tokenizers.splitting import RULES

KIND = "bpe"
_BYTES = 256


@dataclass(frozen=True)
class Content:
    """What a file says."""

    split: str
    """Rule by which text is cut into words."""
    tokens: Sequence[bytes]
    """The vocabulary without the special tokens."""
    merges: Sequence[tuple[bytes, bytes]]
    """Pairs of tokens by rank."""
    min_frequency: int | None = None
    """Count from which a pair was merged, kept for the record; None: it is not known."""
    special: tuple[str, ...] = ()
    """Special tokens beside the standard ones."""


class _Values(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    split: str
    min_frequency: int | None
    special_tokens: list[Any]
    vocabulary: list[str]
    merges: list[list[str]]


def check(content: Content, refuse: Refuse) -> None:
    """Refuse merges that contradict the vocabulary.

    Raises:
        TinylmError: ``refuse``'s, naming the first token or merge that does not fit.
    """
    counts = Counter(content.tokens)
    twice = next((token for token, count in counts.items() if count > 1), None)
    if twice is not None:
        raise refuse(f"the vocabulary holds {_shown(twice)} twice")
    missing = next((byte for byte in range(_BYTES) if bytes([byte]) not in counts), None)
    if missing is not None:
        raise refuse(
            f"the vocabulary lacks the byte 0x{missing:02X}: it must hold all {_BYTES}, so that no "
            "text is unknown"
        )
    names = {*(name.encode() for name in (*SPECIAL_TOKENS, *content.special))}
    made: set[bytes] = set()
    pairs: set[tuple[bytes, bytes]] = set()
    for rank, (left, right) in enumerate(content.merges):
        place = f"merge {rank + 1}, {_shown(left)} and {_shown(right)},"
        for part in (left, right):
            if part not in counts:
                raise refuse(f"{place} takes {_shown(part)}, which the vocabulary lacks")
        if left + right not in counts:
            raise refuse(f"{place} makes {_shown(left + right)}, which the vocabulary lacks")
        if (left, right) in pairs:
            raise refuse(f"{place} stands there twice")
        pairs.add((left, right))
        made.add(left + right)
    for token in content.tokens:
        if token in names:
            raise refuse(f"the vocabulary holds {_shown(token)}, the name of a special token")
        if len(token) != 1 and token not in made:
            raise refuse(f"the vocabulary holds {_shown(token)}, which no merge makes")


def write(path: str | Path, content: Content) -> None:
    """Write a file by a temporary name and a rename.

    Raises:
        DataError: if it cannot be written.
    """
    written = byte_letters.written
    values = {
        "split": content.split,
        "min_frequency": content.min_frequency,
        "special_tokens": list(content.special),
        "vocabulary": [written(token) for token in content.tokens],
        "merges": [[written(left), written(right)] for left, right in content.merges],
    }
    files.write(path, KIND, values)


def read(path: str | Path) -> Content:
    """Read a file written by ``write``, and check all of it.

    Raises:
        DataError: if it is missing, malformed, changed or of another kind.
    """
    refuse = refusal(path, DataError, files.ADVICE)
    values = checked(_Values, files.read(path, KIND), refuse)
    if values["split"] not in RULES:
        rules = " or ".join(RULES)
        raise refuse(f"split is {shown(values['split'])}, but {rules} is needed")
    content = Content(
        split=values["split"],
        tokens=[from_letters(token, refuse) for token in values["vocabulary"]],
        merges=[pair(merge, refuse) for merge in values["merges"]],
        min_frequency=values["min_frequency"],
        special=read_special_tokens(values["special_tokens"], refuse),
    )
    check(content, refuse)
    return content


def pair(merge: Sequence[str], refuse: Refuse) -> tuple[bytes, bytes]:
    """Return the two tokens of a merge."""
    if len(merge) != len(("left", "right")):
        raise refuse(f"the merge {shown(list(merge))} is not a pair of tokens")
    return from_letters(merge[0], refuse), from_letters(merge[1], refuse)


def from_letters(letters: str, refuse: Refuse) -> bytes:
    """Return the bytes of a token as files write it."""
    token = byte_letters.read(letters)
    if not token:
        raise refuse(f"{shown(letters)} is no token of bytes as GPT-2 writes them")
    return token


def _shown(token: bytes) -> str:
    return shown(byte_letters.written(token))
