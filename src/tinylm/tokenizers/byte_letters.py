"""Bytes written as characters that can be seen: how byte-level tokens stand in files.

GPT-2's table (Radford et al. 2019, ``encoder.py``): a byte whose Latin-1 character is printed is
that character, and the others are the characters from U+0100 on, in the order of the bytes. A
space is ``Ġ``, a line break ``Ċ``. Every token of bytes is so a string without white space, and
other strings of bytes give other strings.
"""

from __future__ import annotations

_PRINTED = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)}
_HIDDEN = [byte for byte in range(256) if byte not in _PRINTED]
LETTERS = "".join(
    chr(byte) if byte in _PRINTED else chr(256 + _HIDDEN.index(byte)) for byte in range(256)
)
"""The character of each byte."""
ALPHABET = bytes(sorted(range(256), key=lambda byte: LETTERS[byte]))
"""All bytes in the order of their characters, in which they stand in a vocabulary."""
_BYTES = {letter: byte for byte, letter in enumerate(LETTERS)}


def written(content: bytes) -> str:
    """Return bytes as characters."""
    return "".join(LETTERS[byte] for byte in content)


def read(letters: str) -> bytes | None:
    """Return the bytes that characters stand for; None if one of them stands for none."""
    content = [_BYTES.get(letter) for letter in letters]
    return bytes(byte for byte in content if byte is not None) if None not in content else None
