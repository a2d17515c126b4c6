"""What of a text may reach a terminal, a page or a document.

Control characters of a prompt, a corpus, a name or a generated text could move the cursor, change
the terminal's title, or turn the order of what follows around. They become U+FFFD: C0 but for tab
and line feed, DEL, C1, the marks and controls of Unicode's bidirectional algorithm (UAX 9), halves
of surrogate pairs, and the two code points that no XML may hold. Every other line end becomes a
line feed. ``tests/test_printable.py`` sends all of them through every output.
"""

from __future__ import annotations

import re

BIDI_CONTROLS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
REPLACEMENT = "\ufffd"
_LINE_END = re.compile("\r\n?|[\x85\u2028\u2029]")
_CONTROL = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{BIDI_CONTROLS}\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Return a text of any number of lines without control characters."""
    return _CONTROL.sub(REPLACEMENT, _LINE_END.sub("\n", text))


def in_line(text: str) -> str:
    r"""Return a text that is shown within a line: line feeds and tabs become ``\n`` and ``\t``."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def in_json(text: str) -> str:
    """Return JSON in which control characters within strings are escaped, so that none is lost."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
