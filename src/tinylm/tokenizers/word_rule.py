"""The word rule: normalising, marking and splitting text, before any vocabulary.

``tinylm.tokenizers.word`` states the rule; here are its steps as functions of text alone, on the
reference path. ``word_arrays`` does the same for many ASCII texts at once.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass

# fmt: off
_TYPOGRAPHIC = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′´", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–−", "-"),
        **dict.fromkeys("—―", "--"),
        "…": "...",
    }
)
# fmt: on
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

OPENING = {'"': "“", "'": "‘"}
CLOSING = {'"': "”", "'": "’"}
BRACKETS = "([{"
DASH = "–"
LINE_BREAK = "\n"
LINE_BREAK_AFTER_SPACE = " \n"
AFTER_SPACE = "\v"
"""Stands for a line break after white space while a text is cut; no other vertical tab is left."""
NAMED = {**CLOSING, AFTER_SPACE: LINE_BREAK_AFTER_SPACE}
"""What a split calls the marks that are left: quotes that do not open, and that line break."""

_STANDS_FREE = re.compile(r"(?<!\S)-+(?!\S)")
_BREAK = re.compile("\r\n?|[\u0085\u2028\u2029]")
_BREAK_AFTER_SPACE = re.compile(r"(?<=[^\S\n])\n")


@dataclass(frozen=True)
class Rule:
    """A version of the rule."""

    version: int = 2
    """1: quotes, apostrophes and hyphens as they stand, and line breaks are white space."""
    line_breaks: bool = True
    """Whether line breaks may be tokens; in version 1 they never are."""

    @property
    def keeps_breaks(self) -> bool:
        """Whether line breaks are tokens."""
        return self.line_breaks and self.version > 1

    def split(self, text: str) -> list[str]:
        """Return the string tokens of a text, in lower case."""
        return self._cut(normalise(text).lower())

    def split_written(self, text: str) -> list[str]:
        """Return the string tokens of a text, in the case that they are written in."""
        return self._cut(normalise(text))

    def marked(self, text: str) -> str:
        """Return a normalised text with its marks told apart (step 3).

        Quotes that close and line breaks after a space get their own names with the split only.
        """
        if self.version == 1:
            return text
        if AFTER_SPACE in text:
            text = text.replace(AFTER_SPACE, " ")
        if self.keeps_breaks and LINE_BREAK in text:
            text = _BREAK_AFTER_SPACE.sub(AFTER_SPACE, text)
        if '"' in text or "'" in text:
            opens = self._patterns(text)[1]
            text = opens.sub(lambda marks: "".join(map(OPENING.__getitem__, marks[0])), text)
        if "-" in text:
            text = _STANDS_FREE.sub(lambda hyphens: DASH * len(hyphens[0]), text)
        return text

    def _patterns(self, text: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
        if text.isascii():
            return _ascii_patterns(keeps_breaks=self.keeps_breaks)
        far = _BEYOND_BMP.search(text) is not None
        return _unicode_patterns(beyond_bmp=far, keeps_breaks=self.keeps_breaks)

    def _cut(self, text: str) -> list[str]:
        """Apply steps 3 and 4."""
        tokens = self._patterns(text)[0].findall(self.marked(text))
        if self.version == 1:
            return tokens
        return [NAMED.get(token, token) for token in tokens]


def normalise(text: str) -> str:
    """Return a text with typographic marks in ASCII and line breaks as ``\\n`` (step 1)."""
    if text.isascii():
        return _BREAK.sub(LINE_BREAK, text) if "\r" in text else text
    if "â" in text:
        text = _DOUBLE_ENCODED.sub(lambda match: _LAST_BYTE_MEANS[match[0][-1]], text)
    return _BREAK.sub(LINE_BREAK, text.translate(_TYPOGRAPHIC))


@functools.cache
def _ascii_patterns(*, keeps_breaks: bool) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what matches a token, and what matches quotes that open, in ASCII text."""
    others = r"[^\s\x1c-\x1fA-Za-z0-9]" + ("|[\n\v]" if keeps_breaks else "")
    token = rf"[A-Za-z]+(?:'[A-Za-z]+)*|[0-9]+|{others}"
    return re.compile(token, re.ASCII), _opens("")


def _opens(marks: str) -> re.Pattern[str]:
    """Return what matches quotes that open, all of a run alike.

    They stand after white space, a bracket or nothing; or before a letter or digit and not after
    one, nor after one of the combining ``marks``.
    """
    word = rf"""(?:[^\W_]|["'{marks}])"""
    return re.compile(rf"""(?<![^\s(\[{{])["']+|(?<!{word})["']+(?=[^\W_])""")


_BEYOND_BMP = re.compile("[\U00010000-\U0010ffff]")


@functools.cache
def _unicode_patterns(
    *, beyond_bmp: bool, keeps_breaks: bool
) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the same for any text; made on first use, in about 0.1 s.

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
    others = r"\S" + ("|[\n\v]" if keeps_breaks else "")
    token = f"{word}(?:'{word})*|[{digits}]+|{others}"
    return re.compile(token), _opens(marks)
