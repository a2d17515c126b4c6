"""The file of a tokenizer: one JSON object with a checksum, which says what kind it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinylm import atomic
from tinylm.errors import DataError, shown
from tinylm.reading import CHECKSUM, read_json, refusal, signed, verified
from tinylm.registry import TOKENIZERS
from tinylm.tokenizers.base import Tokenizer

FORMAT = "tinylm-tokenizer"
FORMAT_VERSION = 1
ADVICE = "train the tokenizer again, or give another file"
"""What to do about a file that cannot be used."""


def heading(kind: str) -> dict[str, Any]:
    """Return what the file of a kind of tokenizer begins with."""
    return {"format": FORMAT, "version": FORMAT_VERSION, "kind": kind}


def read(path: str | Path, kind: str) -> dict[str, Any]:
    """Return what the file of a tokenizer holds beside format, version and kind.

    Raises:
        DataError: if it is missing, malformed, changed since it was written, or of another kind.
    """
    refuse = refusal(path, DataError, ADVICE)
    content = read_json(path, dict[str, Any], DataError, ADVICE)
    if content.get("format") != FORMAT or CHECKSUM not in content:
        raise refuse(f'not a tokenizer file (no "format": "{FORMAT}" with a checksum)')
    content = verified(content, refuse)
    expected = heading(kind)
    for key, value in expected.items():
        if content.get(key) != value:
            raise refuse(f"{key} is {shown(content.get(key))}, but {value!r} is needed")
    return {key: value for key, value in content.items() if key not in expected}


def load(path: str | Path) -> Tokenizer:
    """Read a tokenizer of any kind; the file says which.

    Raises:
        DataError: if it is missing, malformed, changed since it was written, or of no kind that
            there is.
    """
    content = read_json(path, dict[str, Any], DataError, ADVICE)
    kind = content.get("kind")
    if content.get("format") != FORMAT or not isinstance(kind, str) or kind not in TOKENIZERS:
        kinds = ", ".join(TOKENIZERS)
        raise refusal(path, DataError, ADVICE)(
            f'not a tokenizer file ("format": "{FORMAT}" and "kind" of {kinds} are needed)'
        )
    tokenizer: Tokenizer = TOKENIZERS.load(kind).load(path)
    return tokenizer


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
