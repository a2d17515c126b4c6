"""What a report was made of: ``report.json`` beside ``report.pdf``.

Whoever hands the report on can tell by it whether the results have changed since.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ConfigDict
from typing_extensions import TypedDict

from tinylm.atomic import write_text
from tinylm.fingerprints import file_sha256
from tinylm.reading import read_signed, signed
from tinylm.registry import EXPERIMENTS

RECORD = "report.json"
_PDF = "report.pdf"


class Record(TypedDict):
    """What ``report.json`` holds."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    pdf: str
    """SHA-256 of the report."""
    results: dict[str, str]
    """Experiment -> SHA-256 of its result."""
    settings: list[str]
    """``key=value``: those in which the report's configuration differs from the run's."""


def write_record(folder: Path, experiments: Iterable[str], settings: Sequence[str]) -> None:
    """Write down what the report in a run's folder was made of.

    Args:
        folder: the run's.
        experiments: whose results are in it.
        settings: in which its configuration differs from the run's.
    """
    record = {
        "pdf": file_sha256(folder / _PDF),
        "results": {name: file_sha256(_result(folder, name)) for name in experiments},
        "settings": list(settings),
    }
    write_text(folder / RECORD, json.dumps(signed(record), indent=1))


def read_record(folder: Path, advice: str) -> Record | None:
    """Return what ``write_record`` wrote, or None if there is no such file.

    Args:
        folder: the run's.
        advice: what to do about a file that cannot be used, for the message.

    Raises:
        DataError: if it cannot be read or has changed since it was written.
    """
    path = folder / RECORD
    return read_signed(path, Record, advice=advice) if path.exists() else None


def changed_since(folder: Path, record: Record) -> str | None:
    """Name the first of the report and its results that is not as it was, or return None."""
    files = {name: _result(folder, name) for name in record["results"] if name in EXPERIMENTS}
    if len(files) < len(record["results"]):
        return "the list of experiments"
    known = [(folder / _PDF, record["pdf"])]
    known += [(path, record["results"][name]) for name, path in files.items()]
    for path, digest in known:
        if not path.is_file() or file_sha256(path) != digest:
            return path.relative_to(folder).as_posix()
    return None


def _result(folder: Path, name: str) -> Path:
    return folder / "results" / f"{name}.json"
