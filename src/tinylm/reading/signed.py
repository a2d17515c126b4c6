"""JSON objects that carry a checksum of their own values, so that a changed one is not used.

The key ``checksum`` holds the first 16 hexadecimal digits of the SHA-256 of all other keys and
values in their order, written as compact JSON: a file that was only reformatted is still valid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from tinylm.errors import DataError, TinylmError
from tinylm.reading.files import read_bytes
from tinylm.reading.json_files import parse_json
from tinylm.reading.shapes import Refuse, checked, refusal

Shape = TypeVar("Shape")

CHECKSUM = "checksum"


def signed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with their checksum."""
    return {**values, CHECKSUM: _checksum(values)}


def verified(value: Any, refuse: Refuse) -> dict[str, Any]:
    """Return a signed object without its checksum.

    Raises:
        TinylmError: ``refuse``'s, if it is no object, carries no checksum, or another one.
    """
    values = dict(checked(dict[str, Any], value, refuse))
    if CHECKSUM not in values:
        raise refuse(f"carries no {CHECKSUM}")
    if values.pop(CHECKSUM) != _checksum(values):
        raise refuse(f"has changed since it was written (its {CHECKSUM} is another)")
    return values


def read_signed(
    path: str | Path,
    kind: type[Shape],
    error: type[TinylmError] = DataError,
    advice: str = "",
    finite: bool = True,
    older: bool = False,
) -> Shape:
    """Return the values of a JSON file that were written with ``signed``.

    Args:
        path: the file.
        kind: what it must hold beside the checksum, as ``shapes.checked`` takes it.
        error: class of what is raised.
        advice: what to do about a file that cannot be used; it ends the message.
        finite: whether NaN and infinities are refused.
        older: whether a file without a checksum is taken too, as earlier versions wrote it. Then
            ``kind`` must refuse keys that it does not know: a damaged name of the checksum is one.

    Raises:
        TinylmError: of that class, naming the file and what is wrong.
    """
    refuse = refusal(path, error, advice)
    value = parse_json(read_bytes(path, error=error, advice=advice), refuse, finite)
    if not (older and isinstance(value, dict) and CHECKSUM not in value):
        value = verified(value, refuse)
    return checked(kind, value, refuse)


def _checksum(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]
