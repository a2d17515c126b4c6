"""The file of a tokenizer: one JSON object with a checksum, which says what kind it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinylm import atomic
from tinylm.errors import DataError
from tinylm.reading import signed

FORMAT = "tinylm-tokenizer"
FORMAT_VERSION = 1
ADVICE = "train the tokenizer again, or give another file"
"""What to do about a file that cannot be used."""


def heading(kind: str) -> dict[str, Any]:
    """Return what the file of a kind of tokenizer begins with."""
    return {"format": FORMAT, "version": FORMAT_VERSION, "kind": kind}


def write(path: str | Path, kind: str, values: Mapping[str, Any]) -> None:
    """Write a tokenizer by a temporary name and a rename.

    Args:
        path: the file.
        kind: name in the registry TOKENIZERS.
        values: what it holds beside format, version and kind, as JSON.

    Raises:
        DataError: if it cannot be written.
    """
    content = signed({**heading(kind), **values})
    try:
        atomic.write_text(path, json.dumps(content, indent=0) + "\n")
    except OSError as error:
        raise DataError(
            f"{path}: cannot write the tokenizer ({error.strerror or error}): "
            "give a folder that can be written"
        ) from error
