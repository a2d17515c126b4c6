"""SentencePiece's words: a space is written ``▁``, and a word begins with it.

Kudo and Richardson (2018). The steps are those of ``Metaspace`` of Hugging Face ``tokenizers``:
spaces (U+0020 alone) become ``▁``, one more is put in front, so that a word at the start of a text
is cut as within, and each ``▁`` begins a word, or the text is one word whole. What is lost: ``▁``
comes back as a space, and a text that begins with a space cannot be told from the same without it;
where texts are cut at white space first (as T5's and XLM-R's are), which white space it was.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from tinylm.tokenizers.characters import BETWEEN, LETTER, SPACE, WHITE_SPACE
from tinylm.tokenizers.utf8 import to_bytes

MARK = "▁"
Prepend: TypeAlias = Literal["always", "first", "never", "added"]
PREPEND = get_args(Prepend)
Dropped: TypeAlias = Literal["marks", "space", "nothing"]
DROPPED = get_args(Dropped)
_SEPARATOR = "\n"
_WORD = re.compile(f"{MARK}[^{MARK}]*|[^{MARK}]+")
_NOT_WHITE = re.compile(f"[^{WHITE_SPACE}]+")


@dataclass(frozen=True)
class Metaspace:
    """The rule with its options."""

    prepend: Prepend = "always"
    """Whether ``▁`` is put before a text that does not begin with it (``always``: if texts are cut
    at white space, before each part; ``first``: before the part that the text begins with), before
    every text (``added``), or not (``never``)."""
    cut: bool = True
    """Whether each ``▁`` begins a word; else texts, or their parts, are words."""
    at_white_space: bool = False
    """Whether texts are cut at white space first, which is dropped."""
    dropped: Dropped = "marks"
    """What decoding leaves out: every ``▁`` of the first token, one space in front, or nothing."""

    def _parts(self, text: str) -> Iterator[str]:
        """Yield what is cut into words, with ``▁`` for spaces; none is empty."""
        parts = [(0, text)] if text else []
        if self.at_white_space:
            parts = [(match.start(), match[0]) for match in _NOT_WHITE.finditer(text)]
        for start, part in parts:
            marked = part.replace(" ", MARK)
            begins = marked.startswith(MARK)
            wanted = self.prepend == "always" or (self.prepend == "first" and start == 0)
            yield MARK + marked if self.prepend == "added" or (wanted and not begins) else marked

    def split(self, text: str) -> list[bytes]:
        """Return the words of a text as UTF-8."""
        parts = self._parts(to_bytes(text).decode())
        if self.cut:
            return [word.encode() for part in parts for word in _WORD.findall(part)]
        return [part.encode() for part in parts]

    def cleaned(self, text: str) -> bytes:
        """Return the UTF-8 of what is cut into words by the compiled loops."""
        return to_bytes(_SEPARATOR.join(self._parts(text)))

    def kinds(self) -> npt.NDArray[np.uint8]:
        """Return the kind of each code point for ``splitting.MARKED``, (0x110000,)."""
        return _kinds(self.cut, self.at_white_space)

    def piece_bytes(self, piece: str) -> bytes:
        """Return what a piece decodes to within a text."""
        return to_bytes(piece.replace(MARK, " "))

    def first_bytes(self, piece: str) -> bytes:
        """Return what a piece decodes to that comes first."""
        return self.piece_bytes(piece.replace(MARK, "") if self.dropped == "marks" else piece)

    def text(self, decoded: str) -> str:
        """Return a text as it is read."""
        return decoded.removeprefix(" ") if self.dropped == "space" else decoded


@functools.cache
def _kinds(cut: bool, at_white_space: bool) -> npt.NDArray[np.uint8]:
    kinds = np.full(0x110000, LETTER, np.uint8)
    if cut:
        kinds[ord(MARK)] = SPACE
    if at_white_space:
        kinds[ord(_SEPARATOR)] = BETWEEN
    kinds.flags.writeable = False
    return kinds
