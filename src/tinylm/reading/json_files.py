"""JSON and JSON lines."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from tinylm.errors import DataError, TinylmError, key_shown
from tinylm.reading.files import MOST_BYTES, decode, lines, read_bytes, refuse_half_characters
from tinylm.reading.shapes import Refuse, checked, refusal

Shape = TypeVar("Shape")

MOST_DEPTH = 32
MOST_VALUES = 1 << 22
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_MOST_DIGITS = 60  # a 128-bit state of a random number generator has 39


class _RefusedError(ValueError):
    """What JSON or YAML allow and a file of ours never has."""


def parse_json(content: bytes | str, refuse: Refuse, finite: bool = True) -> Any:
    """Return the value of a JSON text.

    Args:
        content: the text, or its bytes in UTF-8.
        refuse: makes the error.
        finite: whether NaN and infinities, as Python writes them, are refused.

    Raises:
        TinylmError: ``refuse``'s, for text that is not JSON, or that has a key twice in one object,
            a number that is not finite or has more than 60 digits, more than 32 levels, or more
            than four million values.
    """
    text = content if isinstance(content, str) else decode(content, refuse)
    opened = text.count("[") + text.count("{")
    if opened + text.count(",") > MOST_VALUES:
        raise refuse(f"holds more than {MOST_VALUES:,} values")
    try:
        value = (_DECODER if finite else _LENIENT).decode(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, " * ("\n" in text) + f"column {error.colno}"
        raise refuse(f"not JSON ({error.msg[:1].lower()}{error.msg[1:]} at {where})") from None
    except RecursionError:
        raise refuse(f"is nested more than {MOST_DEPTH} deep") from None
    except _RefusedError as error:
        raise refuse(str(error)) from None
    if opened > MOST_DEPTH and _depth(value) > MOST_DEPTH:
        raise refuse(f"is nested more than {MOST_DEPTH} deep")
    return value


def read_json(
    path: str | Path,
    kind: type[Shape],
    error: type[TinylmError] = DataError,
    advice: str = "",
    most: int = MOST_BYTES,
) -> Shape:
    """Return the value of a JSON file.

    Args:
        path: the file.
        kind: what it must hold, as ``shapes.checked`` takes it.
        error: class of what is raised.
        advice: what to do about a file that cannot be used; it ends the message.
        most: bytes.

    Raises:
        TinylmError: of that class, naming the file and what is wrong.
    """
    refuse = refusal(path, error, advice)
    return checked(kind, parse_json(read_bytes(path, most, error, advice), refuse), refuse)


def read_json_lines(
    path: str | Path,
    kind: type[Shape],
    error: type[TinylmError] = DataError,
    advice: str = "",
    most: int = MOST_BYTES,
    what: str = "line",
    first: int = 0,
    last: int | None = None,
) -> Iterator[tuple[int, Shape]]:
    """Yield the number, from 1, and the value of every line of a file that is not empty.

    The file is read as a stream. A last line without an end is yielded like the others.

    Args:
        path: the file.
        kind: what each line must hold.
        error: class of what is raised.
        advice: what to do about a line that cannot be used; it ends the message.
        most: bytes of a line.
        what: a line is called in messages.
        first: leave out lines that begin before this byte; numbers are then counted from it.
        last: leave out those that begin at this byte or behind it; None: none.

    Raises:
        TinylmError: of that class, naming the file, the line and what is wrong.
    """
    try:
        with Path(path).open("rb") as stream:
            for number, line in lines(stream, path, most, error, what, first, last):
                if line.strip():
                    refuse = refusal(f"{path}, {what} {number}", error, advice)
                    value = parse_json(line.rstrip("\r\n"), refuse)
                    if _SURROGATE.search(line):
                        refuse_half_characters(value, refuse)
                    yield number, checked(kind, value, refuse)
    except OSError as problem:
        raise refusal(path, error)(f"cannot be read ({problem.strerror or problem})") from problem


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise _RefusedError(f"the key {key_shown(twice)} stands there twice")
    return value


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise _RefusedError(f"a number of {len(digits):,} digits ({digits[:12]}…)")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _RefusedError(f"the number {digits[:24]} is too large")
    return value


def _constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_once, parse_int=_integer, parse_float=_number, parse_constant=_constant
)
_LENIENT = json.JSONDecoder(object_pairs_hook=_once, parse_int=_integer, parse_float=_number)


def _depth(value: Any) -> int:
    """Return the greatest depth of nested objects and lists."""
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, (dict, list))]:
        level = [
            item
            for parent in level
            for item in (parent.values() if isinstance(parent, dict) else parent)
        ]
        depth += 1
    return depth
