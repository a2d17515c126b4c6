"""The file in which an experiment's result is kept: JSON with a checksum."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinylm.atomic import write_text
from tinylm.errors import DataError
from tinylm.reading import read_signed, signed


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result; numbers that are not finite are written as Python writes them."""
    write_text(path, json.dumps(signed(result), indent=1, ensure_ascii=False))


def read_result(path: Path) -> dict[str, Any] | None:
    """Return what ``write_result`` wrote, or None if there is no such file.

    Raises:
        DataError: if the file cannot be read, has changed since it was written, or was written
            by a version before results had a checksum.
    """
    if not path.exists():
        return None
    return read_signed(path, dict[str, Any], DataError, "measure it again", finite=False)
