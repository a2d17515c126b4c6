"""The kind of every character, as the splitting rules tell them apart.

The kinds follow from Unicode's general categories: letters are L, numbers N, and white space is
Unicode's property White_Space, which is not Python's ``str.isspace`` (that takes the separators
U+001C to U+001F too).
"""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
import numpy.typing as npt

INSIDE, LETTER, NUMBER, OTHER, APOSTROPHE, SPACE, WHITE, BREAK, BETWEEN = range(9)
"""``INSIDE`` is a byte of UTF-8 that no character begins with; then letters, numbers, what is
neither nor white space, of which the apostrophe is told apart; the space, other white space, and
of that ``\\n`` and ``\\r``. ``BETWEEN`` is what stands in no word, where white space does not."""
_WHITE = "\t\v\f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
WHITE_SPACE = " \n\r" + _WHITE
"""All characters of white space."""
_BY_CATEGORY = {"L": LETTER, "N": NUMBER}
FILLED = (range(0x40000), range(0xE0000, 0xE1000))
"""No letter and no number lies elsewhere: planes 4 to 13 are empty, 15 and 16 private."""


@functools.cache
def kinds_of_characters() -> npt.NDArray[np.uint8]:
    """Return the kind of each code point, (0x110000,)."""
    kinds = np.full(0x110000, OTHER, np.uint8)
    for codes in FILLED:
        kinds[codes.start : codes.stop] = [
            _BY_CATEGORY.get(unicodedata.category(chr(code))[0], OTHER) for code in codes
        ]
    for characters, kind in (("'", APOSTROPHE), (" ", SPACE), (_WHITE, WHITE), ("\n\r", BREAK)):
        kinds[[ord(character) for character in characters]] = kind
    kinds.flags.writeable = False
    return kinds


def kinds_of_bytes(text: str) -> bytes:
    """Return the kind of each byte of a text's UTF-8: of a character's first, and ``INSIDE``."""
    table = kinds_of_characters()
    if text.isascii():
        return text.encode("ascii").translate(table[:256].tobytes())
    kinds = bytearray()
    for character in text:
        code = ord(character)
        kinds.append(table[code])
        kinds += bytes((code >= 0x80) + (code >= 0x800) + (code >= 0x10000))
    return bytes(kinds)
