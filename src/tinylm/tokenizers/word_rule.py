"""The word rule: normalising and splitting text, on a reference path and a compiled path.

``tinylm.tokenizers.word`` states the rule. Here are its steps as functions of text alone, before
any vocabulary.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tinylm.tokenizers.base import SPECIAL_TOKENS, UNK_ID

WINDOW_BYTES = 1 << 18
"""The compiled path works on pieces of this size, so that its temporaries stay in the cache."""

_TYPOGRAPHIC = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′´", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–−", "-"),
        **dict.fromkeys("—―", "--"),
        "…": "...",
    }
)
# The closing quote's last byte, 0x9D, has no character in cp1252 and is often dropped: a bare
# "â€" is a closing quote too. Longer forms come first.
_DOUBLE_ENCODED = re.compile("â(?:€[œ\x9d™˜“”¦]?|\x80[\x93\x94\x98\x99\x9c\x9d\xa6])")
_LAST_BYTE_MEANS = {
    **dict.fromkeys("œ\x9d€\x9c", '"'),
    **dict.fromkeys("™˜\x98\x99", "'"),
    **dict.fromkeys("“\x93", "-"),
    **dict.fromkeys("”\x94", "--"),
    **dict.fromkeys("¦\xa6", "..."),
}


def normalise(text: str) -> str:
    """Return ``text`` with typographic quotes, dashes and ellipses in ASCII (step 1)."""
    if text.isascii():
        return text
    if "â" in text:
        text = _DOUBLE_ENCODED.sub(lambda match: _LAST_BYTE_MEANS[match[0][-1]], text)
    return text.translate(_TYPOGRAPHIC)


# --- the reference path --------------------------------------------------------------------------

_ASCII_TOKEN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|[0-9]+|[^\s\x1c-\x1fA-Za-z0-9]", re.ASCII)


_BEYOND_BMP = re.compile("[\U00010000-\U0010ffff]")


@functools.cache
def _unicode_token(*, beyond_bmp: bool) -> re.Pattern[str]:
    """Return the splitting pattern for any text; made on first use, in about 0.1 s.

    The standard ``re`` has no ``\\p{L}``, so the classes are written out from ``unicodedata``. It
    has a table for the first 65,536 code points but tries the ranges beyond one by one, hence the
    pattern without them, four times as fast, for texts that do not go so far.
    """
    ranges: dict[str, list[list[int]]] = {"L": [], "M": [], "Nd": []}
    # No letter, mark or digit lies in between: planes 4 to 13 are empty.
    codes = (*range(0x40000), *range(0xE0000, 0xE1000)) if beyond_bmp else range(0x10000)
    for code in codes:
        category = unicodedata.category(chr(code))
        spans = ranges.get(category if category == "Nd" else category[0])
        if spans is None:
            continue
        if spans and spans[-1][1] == code - 1:
            spans[-1][1] = code
        else:
            spans.append([code, code])
    letters, marks, digits = (
        "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges[kind])
        for kind in ("L", "M", "Nd")
    )
    word = f"[{letters}][{letters}{marks}]*"
    return re.compile(f"{word}(?:'{word})*|[{digits}]+|\\S")


def split_normalised(text: str) -> list[str]:
    """Apply step 3 to text that steps 1 and 2 have seen."""
    if text.isascii():
        return _ASCII_TOKEN.findall(text)
    return _unicode_token(beyond_bmp=_BEYOND_BMP.search(text) is not None).findall(text)


def split_words(text: str) -> list[str]:
    """Return the string tokens of ``text`` by the module's rule, before any vocabulary."""
    return split_normalised(normalise(text).lower())


# --- the compiled path ---------------------------------------------------------------------------

_SPACE, _LETTER, _DIGIT, _OTHER, _APOSTROPHE = range(5)
_SPACE_BYTES = bytes(code for code in range(128) if chr(code).isspace())


def _class_table() -> bytes:
    classes = bytearray([_OTHER]) * 256
    for code in range(128):
        character = chr(code)
        if character.isspace():
            classes[code] = _SPACE
        elif character.isalpha():
            classes[code] = _LETTER
        elif character.isdigit():
            classes[code] = _DIGIT
    classes[ord("'")] = _APOSTROPHE
    return bytes(classes)


_CLASSES = _class_table()
_LOWER = bytes(range(256)).lower()

# A capital after one of these tells nothing about names: a sentence or a speech may start there.
MAYBE_SENTENCE_START = frozenset(".!?\"'(-:")
MAYBE_START_TABLE = np.array([chr(code) in MAYBE_SENTENCE_START for code in range(256)])


@dataclass(frozen=True)
class Tokens:
    """The tokens of a stretch of ASCII bytes."""

    starts: npt.NDArray[np.int64]  # (tokens,) position of each token's first byte in the blob
    words: Any  # (tokens,) pyarrow LargeStringArray, lower-cased


def _windows(blob: bytes) -> Iterator[tuple[int, int]]:
    """Yield ``(start, end)`` of pieces of about ``WINDOW_BYTES`` that end at white space."""
    start = 0
    while start < len(blob):
        end = min(start + WINDOW_BYTES, len(blob))
        if end < len(blob):
            cut = max(blob.rfind(b" ", start, end), blob.rfind(b"\n", start, end))
            if cut <= start:  # one token longer than a window
                later = [blob.find(space, end) for space in (b" ", b"\n")]
                cut = min((place for place in later if place >= 0), default=len(blob))
            end = cut
        yield start, end
        start = end


def ascii_tokens(blob: bytes) -> Iterator[Tokens]:
    """Split ASCII bytes by the rule, window by window."""
    for begin, end in _windows(blob):
        piece = bytearray(blob[begin:end])
        classes = np.frombuffer(piece.translate(_CLASSES), dtype=np.uint8)  # (bytes,) writable
        marks = np.flatnonzero(classes == _APOSTROPHE)
        marks = marks[(marks > 0) & (marks < len(classes) - 1)]
        between = (classes[marks - 1] == _LETTER) & (classes[marks + 1] == _LETTER)
        classes[marks[between]] = _LETTER
        start = classes >= _OTHER
        start[0] = True
        start[1:] |= classes[1:] != classes[:-1]
        filled = classes != _SPACE
        start &= filled
        # Without its spaces the text is exactly the tokens' bytes, one after another, which is
        # Arrow's layout of a string array: offsets and data, and nothing is copied again.
        data = piece.translate(_LOWER, _SPACE_BYTES)
        starts = np.flatnonzero(start)  # (tokens,)
        offsets = np.empty(len(starts) + 1, dtype=np.int64)
        offsets[:-1] = np.cumsum(filled, dtype=np.int32)[starts]
        offsets[:-1] -= 1  # the running count includes the byte itself
        offsets[-1] = len(data)
        words = pa.LargeStringArray.from_buffers(
            len(starts), pa.py_buffer(offsets), pa.py_buffer(data)
        )
        yield Tokens(starts + begin, words)


class Lookup:
    """Ids of many ASCII tokens at once."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        ascii_ids = [
            index
            for index, word in enumerate(vocabulary)
            if index >= len(SPECIAL_TOKENS) and word.isascii()
        ]
        self._values = pc.SetLookupOptions(
            value_set=pa.array([vocabulary[index] for index in ascii_ids], pa.large_string())
        )
        # An unknown token has no place in the value set; -1 leads to the last entry.
        self._ids = np.array([*ascii_ids, UNK_ID], dtype=np.int32)

    def __call__(self, words: Any) -> npt.NDArray[np.int32]:
        """Return the id of each word of an Arrow string array, (words,)."""
        places: npt.NDArray[np.int32]  # (tokens,)
        places = pc.index_in(words, options=self._values).fill_null(-1).to_numpy()
        ids: npt.NDArray[np.int32] = self._ids[places]
        return ids


def text_ends(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return where each text ends in ``"\\n".join(texts)``, shape ``(texts,)``, in characters."""
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return np.cumsum(lengths + 1) - 1
