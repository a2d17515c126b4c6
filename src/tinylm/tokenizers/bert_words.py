"""BERT's words: how text is cleaned and cut before WordPiece (Devlin et al. 2019).

1. *Clean*: control characters and U+FFFD go, every kind of white space is a space.
2. Characters of Chinese writing get spaces around them, so that each is a word.
3. If accents are stripped: canonical decomposition (NFD) without combining marks (Mn).
4. If wanted, lower case, character by character: a final sigma is like others.
5. *Cut* at white space, which is dropped; each punctuation mark (Unicode category P, and all marks
   of ASCII) is a word.

These are the steps of Hugging Face's ``BertNormalizer`` and ``BertPreTokenizer``. Their tables are
of Unicode 8 (2015): about a hundred marks and a dozen control characters that came since are none
to them, and are to this module.
"""

from __future__ import annotations

import functools
import re
import string
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinylm.tokenizers.characters import BETWEEN, FILLED, LETTER, OTHER

_WHITE = frozenset("\t\n\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000") | frozenset(
    map(chr, range(0x2000, 0x200B))
)
_CHINESE = (
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
    *((0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
)
_DROPPED = ("Cc", "Cf", "Co", "Cs")
_ASCII_CONTROL = bytes((*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F))
_MARKS = re.escape(string.punctuation)
_ASCII_WORD = re.compile(rf"[^\s{_MARKS}]+|[{_MARKS}]", re.ASCII)


class _Table(dict[int, str]):
    """What ``str.translate`` reads: each character is worked out when it is first met."""


class _Cleaned(_Table):
    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character in _WHITE:
            result = " "
        elif character == "\ufffd" or unicodedata.category(character) in _DROPPED:
            result = ""
        elif any(first <= code <= last for first, last in _CHINESE):
            result = f" {character} "
        else:
            result = character
        self[code] = result
        return result


class _Unmarked(_Table):
    def __missing__(self, code: int) -> str:
        character = chr(code)
        result = "" if unicodedata.category(character) == "Mn" else character
        self[code] = result
        return result


class _Lower(_Table):
    def __missing__(self, code: int) -> str:
        result = self[code] = chr(code).lower()
        return result


class _Apart(_Table):
    def __missing__(self, code: int) -> str:
        character = chr(code)
        result = self[code] = f" {character} " if is_mark(character) else character
        return result


_CLEANED, _UNMARKED, _LOWER, _APART = _Cleaned(), _Unmarked(), _Lower(), _Apart()


def is_mark(character: str) -> bool:
    """Return whether a character is a word of its own as a punctuation mark."""
    return character in string.punctuation or unicodedata.category(character).startswith("P")


@dataclass(frozen=True)
class WordRule:
    """The rule with its options."""

    lowercase: bool = False
    """Whether words are in lower case."""
    strip_accents: bool = False
    """Whether accents are stripped."""

    def cleaned(self, text: str) -> bytes:
        """Return the UTF-8 of a text without what is lost, ready to be cut."""
        if text.isascii():
            return (
                (text.lower() if self.lowercase else text).encode().translate(None, _ASCII_CONTROL)
            )
        text = text.translate(_CLEANED)
        if self.strip_accents:
            text = unicodedata.normalize("NFD", text).translate(_UNMARKED)
        if self.lowercase:
            text = text.translate(_LOWER)
        return text.encode()

    def split(self, text: str) -> list[str]:
        """Return the words of a text."""
        cleaned = self.cleaned(text).decode()
        if cleaned.isascii():
            return _ASCII_WORD.findall(cleaned)
        return cleaned.translate(_APART).split()


@functools.cache
def kinds_of_characters() -> npt.NDArray[np.uint8]:
    """Return the kind of each code point of a cleaned text for ``splitting.BERT``, (0x110000,)."""
    kinds = np.full(0x110000, LETTER, np.uint8)
    for codes in FILLED:
        kinds[codes.start : codes.stop] = [
            OTHER if is_mark(chr(code)) else LETTER for code in codes
        ]
    kinds[[ord(character) for character in "\t\n\r "]] = BETWEEN
    kinds.flags.writeable = False
    return kinds
