"""The compiled path of the word rule: many ASCII texts at once, by operations on arrays of bytes.

The functions of ``word_rule`` say what is computed; tests hold both to the same tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tinylm.tokenizers.base import UNK_ID
from tinylm.tokenizers.word_rule import (
    BRACKETS,
    CLOSING,
    DASH,
    LINE_BREAK_AFTER_SPACE,
    OPENING,
    Rule,
)

Places = npt.NDArray[np.int64]

WINDOW_BYTES = 1 << 18
"""The compiled path works on pieces of this size, so that its temporaries stay in the cache."""
BETWEEN_TEXTS = b"\xff"
"""Stands between two texts: white space that no text holds."""

# Tokens that are not ASCII are a byte each, those of cp1252 where it has the character.
_BYTES = {
    **{mark: mark.encode("cp1252") for mark in [*OPENING.values(), *CLOSING.values(), DASH]},
    LINE_BREAK_AFTER_SPACE: b"\x81",
}
_NAMES = {code: name for name, code in _BYTES.items()}

_OPENING_CODES, _CLOSING_CODES = (
    np.array([_BYTES[sides[chr(c)]][0] if chr(c) in sides else 0 for c in range(256)], np.uint8)
    for sides in (OPENING, CLOSING)
)
_IS_BRACKET = np.array([chr(code) in BRACKETS for code in range(256)])

# What splits at once is above _DIGIT, what needs a look at its neighbours above _OTHER.
_SPACE, _LETTER, _DIGIT, _OTHER, _APOSTROPHE, _QUOTE, _HYPHEN, _BREAK = range(8)
_LOWER = bytes(range(256)).lower()


def in_bytes(token: str) -> bytes | None:
    """Return a token as the compiled path writes it, or None if it makes no such token."""
    return token.encode("ascii") if token.isascii() and token[0] != " " else _BYTES.get(token)


def in_text(token: bytes) -> str:
    """Return a token of the compiled path as the vocabulary writes it."""
    return _NAMES.get(token) or token.decode("ascii")


@functools.cache
def _tables(rule: Rule) -> tuple[bytes, bytes]:
    """Return the class of each byte, and the bytes that are white space."""
    classes = bytearray([_OTHER]) * 256
    for code in range(128):
        character = chr(code)
        if character.isspace():
            classes[code] = _SPACE
        elif character.isalpha():
            classes[code] = _LETTER
        elif character.isdigit():
            classes[code] = _DIGIT
    classes[BETWEEN_TEXTS[0]] = _SPACE
    classes[ord("'")] = _APOSTROPHE
    if rule.version > 1:
        classes[ord('"')] = _QUOTE
        classes[ord("-")] = _HYPHEN
        if rule.line_breaks:
            classes[ord("\n")] = _BREAK
    return bytes(classes), bytes(code for code in range(256) if classes[code] == _SPACE)


@dataclass(frozen=True)
class Tokens:
    """The tokens of a stretch of ASCII bytes."""

    starts: npt.NDArray[np.int64]  # (tokens,) position of each token's first byte in the blob
    words: Any  # (tokens,) pyarrow LargeBinaryArray, lower-cased


def _windows(blob: bytes) -> Iterator[tuple[int, int]]:
    """Yield ``(start, end)`` of pieces of about ``WINDOW_BYTES`` that end before a space."""
    start = 0
    while start < len(blob):
        end = min(start + WINDOW_BYTES, len(blob))
        if end < len(blob):
            cut = blob.rfind(b" ", start, end)
            if cut <= start:  # no space in a window: go on to the next
                cut = blob.find(b" ", end)
            end = cut if cut >= 0 else len(blob)
        yield start, end
        start = end


def ascii_tokens(texts: Sequence[str], rule: Rule) -> Iterator[Tokens]:
    """Split ASCII texts by the rule, window by window; positions are those in ``joined(texts)``."""
    classes_of, spaces = _tables(rule)
    blob = joined(texts)
    for begin, end in _windows(blob):
        piece = bytearray(blob[begin:end])
        classes = np.frombuffer(piece.translate(classes_of), dtype=np.uint8)  # (bytes,) writable
        _look_around(np.frombuffer(piece, dtype=np.uint8), classes, rule)
        start = classes >= _OTHER
        start[0] = True
        start[1:] |= classes[1:] != classes[:-1]
        filled = classes != _SPACE
        start &= filled
        # Without its spaces the text is exactly the tokens' bytes, one after another, which is
        # Arrow's layout of a string array: offsets and data, and nothing is copied again.
        data = piece.translate(_LOWER, spaces)
        starts = np.flatnonzero(start)  # (tokens,)
        offsets = np.empty(len(starts) + 1, dtype=np.int64)
        offsets[:-1] = np.cumsum(filled, dtype=np.int32)[starts]
        offsets[:-1] -= 1  # the running count includes the byte itself
        offsets[-1] = len(data)
        words = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        )
        yield Tokens(starts + begin, words)


def _look_around(codes: npt.NDArray[np.uint8], classes: npt.NDArray[np.uint8], rule: Rule) -> None:
    """Write the class and the byte of what its neighbours decide, in place."""
    places = np.flatnonzero(classes > _OTHER)
    kinds = classes[places]
    before = np.where(places > 0, classes[places - 1], _SPACE)
    after = np.where(places + 1 < len(classes), classes[(places + 1) % len(classes)], _SPACE)
    inside = (kinds == _APOSTROPHE) & (before == _LETTER) & (after == _LETTER)
    classes[places[inside]] = _LETTER
    if rule.version == 1:
        return

    before_is_space = (before == _SPACE) | (before == _BREAK)
    quotes = np.flatnonzero((kinds == _QUOTE) | ((kinds == _APOSTROPHE) & ~inside))
    first, last, run = _runs(places[quotes])
    first, last = quotes[first], quotes[last]
    opens = before_is_space[first] | _IS_BRACKET[codes[places[first] - 1]]
    opens |= (before[first] > _DIGIT) & ((after[last] == _LETTER) | (after[last] == _DIGIT))
    where = places[quotes]
    codes[where] = np.where(opens[run], _OPENING_CODES[codes[where]], _CLOSING_CODES[codes[where]])

    hyphens = np.flatnonzero(kinds == _HYPHEN)
    first, last, run = _runs(places[hyphens])
    first, last = hyphens[first], hyphens[last]
    free = before_is_space[first] & ((after[last] == _SPACE) | (after[last] == _BREAK))
    codes[places[hyphens[free[run]]]] = _BYTES[DASH][0]

    breaks = places[(kinds == _BREAK) & (before == _SPACE) & (places > 0)]
    breaks = breaks[codes[breaks - 1] != BETWEEN_TEXTS[0]]
    codes[breaks] = _BYTES[LINE_BREAK_AFTER_SPACE][0]


def _runs(places: Places) -> tuple[Places, Places, Places]:
    """Return the first and the last of each run of neighbours, and the run that each belongs to."""
    starts = np.ones(len(places), dtype=bool)
    starts[1:] = places[1:] != places[:-1] + 1
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(places)) - 1
    return first, last[: len(first)], np.cumsum(starts) - 1


class Lookup:
    """Ids of many ASCII tokens at once."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        written = {token: in_bytes(token) for token in ids}
        known = {code: ids[token] for token, code in written.items() if code is not None}
        self._values = pc.SetLookupOptions(value_set=pa.array(list(known), pa.large_binary()))
        # An unknown token has no place in the value set; -1 leads to the last entry.
        self._ids = np.array([*known.values(), UNK_ID], dtype=np.int32)

    def __call__(self, words: Any) -> npt.NDArray[np.int32]:
        """Return the id of each word of an Arrow array of bytes, (words,)."""
        places: npt.NDArray[np.int32]  # (tokens,)
        places = pc.index_in(words, options=self._values).fill_null(-1).to_numpy()
        ids: npt.NDArray[np.int32] = self._ids[places]
        return ids


def joined(texts: Sequence[str]) -> bytes:
    """Return ASCII texts as one run of bytes, with ``BETWEEN_TEXTS`` in between."""
    return BETWEEN_TEXTS.join(text.encode("ascii") for text in texts)


def text_ends(texts: Sequence[str]) -> Places:
    """Return where each text ends in ``joined(texts)``, (texts,)."""
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return np.cumsum(lengths + 1) - 1
