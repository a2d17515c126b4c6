"""Text as the bytes of its UTF-8 and back, for the tokenizers that work on bytes.

A lone surrogate, which is no character and has no UTF-8, becomes U+FFFD. Bytes that are given back
need not be UTF-8: those that can be no part of a character are written as U+FFFD; those of a
character that is not complete are not written yet, so that the text of a prefix is a prefix of the
text.
"""

from __future__ import annotations

import codecs


def to_bytes(text: str) -> bytes:
    """Return the UTF-8 of a text."""
    try:
        return text.encode()
    except UnicodeEncodeError:  # pairs of surrogates are characters, lone ones are none
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def to_text(content: bytes | bytearray) -> str:
    """Return the characters that bytes are sure to begin with."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(bytes(content))
