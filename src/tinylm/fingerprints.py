"""What a file holds, in one short text; a file that has not changed is read once a process."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

SECONDS_UNTIL_SURE = 2.0
"""Times of change are as coarse as this on some file systems: until then a file may change and keep
its size and time."""

_known: dict[Path, tuple[tuple[int, ...], str]] = {}


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits, at about 1 GB a second.

    Raises:
        OSError: if it cannot be read.
    """
    whole = Path(path).resolve()
    with whole.open("rb") as file:
        status = os.fstat(file.fileno())
        state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        before, digest = _known.get(whole, ((), ""))
        if before != state:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if time.time() - status.st_mtime > SECONDS_UNTIL_SURE:
                _known[whole] = (state, digest)
    return digest


def fingerprint_of(content: Any) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of JSON values, such as lists of texts."""
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()[:16]
