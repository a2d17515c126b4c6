"""Bytes and text of a file, bounded; the text of all that is read is UTF-8."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tinylm.errors import DataError, TinylmError
from tinylm.reading.shapes import Refuse, refusal

MOST_BYTES = 1 << 26
"""Of a JSON file, or of a line of JSON lines: ten times the largest vocabulary in use."""
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark it starts with
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_bytes(
    path: str | Path,
    most: int = MOST_BYTES,
    error: type[TinylmError] = DataError,
    advice: str = "",
) -> bytes:
    """Return a file's content.

    Raises:
        TinylmError: of the class ``error``, if it cannot be read or has more than ``most`` bytes.
    """
    refuse = refusal(path, error, advice)
    try:
        with Path(path).open("rb") as file:
            content = file.read(most + 1)
    except OSError as problem:
        raise refuse(f"cannot be read ({problem.strerror or problem})") from problem
    if len(content) > most:
        raise refuse(f"has more than {most:,} bytes, which no file of its kind has")
    return content


def decode(content: bytes | bytearray, refuse: Refuse, offset: int = 0) -> str:
    """Return bytes as text, which must be UTF-8; a byte order mark at a file's start is dropped.

    Args:
        content: the bytes.
        refuse: makes the error.
        offset: of the bytes in their file.

    Raises:
        TinylmError: ``refuse``'s, naming the first byte that is not UTF-8, or the encoding.
    """
    skipped = 0
    if offset == 0:
        for mark, name in _MARKS.items():
            if content.startswith(mark):
                raise refuse(f"is {name} text, not UTF-8: save it as UTF-8")
        skipped = len(codecs.BOM_UTF8) * content.startswith(codecs.BOM_UTF8)
    try:
        return content[skipped:].decode("utf-8")
    except UnicodeDecodeError as error:
        start = skipped + error.start
        line = content.count(b"\n", 0, start) + 1
        where = f"byte {offset + start}" + (f", line {line}" if line > 1 else "")
        raise refuse(f"not UTF-8 at {where} ({error.reason}): save it as UTF-8") from None


def lines(
    stream: BinaryIO,
    path: str | Path,
    most: int = MOST_BYTES,
    error: type[TinylmError] = DataError,
    what: str = "line",
    first: int = 0,
    last: int | None = None,
) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text of each line of an open file, its end included.

    Args:
        stream: the file, at its beginning.
        path: its name, for messages.
        most: bytes of a line.
        error: class of what is raised.
        what: a line is called in messages.
        first: leave out lines that begin before this byte; numbers are then counted from it.
        last: leave out those that begin at this byte or behind it; None: none.

    Raises:
        TinylmError: of the class ``error``, for a line that is not UTF-8 or has more than ``most``
            bytes.
    """
    offset = number = 0
    if first:
        stream.seek(first - 1)
        offset = first - 1
        while (rest := stream.readline(most + 1)) and not rest.endswith(b"\n"):
            offset += len(rest)
        offset += len(rest)
    while (last is None or offset < last) and (line := stream.readline(most + 1)):
        number += 1
        refuse = refusal(f"{path}, {what} {number}", error)
        if len(line) > most:
            raise refuse(f"has more than {most:,} bytes; is this a file of lines?")
        yield number, decode(line, refuse, offset)
        offset += len(line)


def refuse_half_characters(value: Any, refuse: Refuse) -> None:
    """Refuse text that holds half of a surrogate pair, which escapes can write and UTF-8 cannot.

    Raises:
        TinylmError: ``refuse``'s.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise refuse(f"holds half of a character (\\u{ord(half):04x}), which is no text") from None
