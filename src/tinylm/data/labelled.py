"""Labelled texts for classification, from ``.jsonl`` and ``.csv`` files.

A row has a text and a label, a string or an integer. A folder's files are split by name
(``data.splits``). Without a validation file a seeded share of every label is held out, so that both
splits have the labels in the same proportions (stratified).

All rows are held in memory: a labelled set is small beside the text that a model is trained on.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm.data.splits import drawn, split_files
from tinylm.errors import DataError, nearest, shown
from tinylm.fingerprints import fingerprint_of
from tinylm.reading import decode, read_bytes, read_json_lines, refusal

SUFFIXES = (".jsonl", ".csv")
_MOST_BYTES = 1 << 30
_INTEGER = re.compile(r"0|-?[1-9][0-9]{,59}")  # int() refuses texts of thousands of digits


@dataclass(frozen=True)
class LabelledRow:
    """One text and its label."""

    text: str
    label: str
    """As written; an integer of a ``.jsonl`` file in decimal digits."""


@dataclass(frozen=True)
class LabelledData:
    """Both splits and the labels that occur in the training split."""

    train: Sequence[LabelledRow]
    validation: Sequence[LabelledRow]
    labels: tuple[str, ...]
    """In numerical order if all are integers, else in that of their characters."""

    @property
    def shared(self) -> int:
        """Validation rows whose text is also a training text."""
        seen = {row.text for row in self.train}
        return sum(row.text in seen for row in self.validation)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that name the rows of both splits, in their order."""
        rows = [[[row.text, row.label] for row in split] for split in (self.train, self.validation)]
        return fingerprint_of(rows)


def read_labelled(
    path: str | Path,
    text_field: str = "text",
    label_field: str = "label",
    held_out: float = 0.1,
    seed: int = 0,
) -> LabelledData:
    """Read a labelled file or folder and split it.

    Args:
        path: a ``.jsonl`` or ``.csv`` file, or a folder of such files.
        text_field: column or key of the text.
        label_field: column or key of the label.
        held_out: share of every label held out where there is no validation file, in (0, 1).
        seed: of what is held out.

    Raises:
        DataError: for a file or row that cannot be read, naming it, fewer than two labels, or a
            label of the validation split that no training row has.
    """
    path = Path(path).expanduser()
    train_files, validation_files = split_files(path, SUFFIXES)
    train = [row for file in train_files for row in read_rows(file, text_field, label_field)]
    validation = [
        row for file in validation_files for row in read_rows(file, text_field, label_field)
    ]
    labels = sorted_labels(row.label for row in train)
    if len(labels) < 2:
        content = f"only the label {shown(labels[0])}" if labels else "no rows"
        raise DataError(f"{path}: {content} in {train_files[0].name}; classification needs two")
    for row in validation:
        if row.label not in labels:
            raise DataError(
                f"{path}: the validation label {shown(row.label)} is in no training row"
                f"{nearest(row.label, labels)}"
            )
    if not validation_files:
        train, validation = hold_out(train, held_out, seed)
    if not validation:
        raise DataError(f"{path}: no validation rows; give more rows of every label")
    return LabelledData(train, validation, labels)


def read_rows(
    path: Path, text_field: str = "text", label_field: str = "label"
) -> list[LabelledRow]:
    """Return the rows of one file, in its order.

    Raises:
        DataError: for another kind of file, one that cannot be read, or a bad row. Rows are counted
            from 1; a ``.csv`` file's header is row 1.
    """
    kinds = {".jsonl": _jsonl_records, ".csv": _csv_records}
    read = kinds.get(path.suffix.lower())
    if read is None:
        raise DataError(f"{path}: cannot read this kind of file: give one of {', '.join(kinds)}")
    rows = []
    for number, record in read(path):
        place = f"{path}, row {number}"
        for name in (text_field, label_field):
            if name not in record:
                hint = nearest(name, map(str, record))
                raise DataError(f"{place}: no field {shown(name)}{hint}")
        text, label = _text(record[text_field], place), _label(record[label_field], place)
        rows.append(LabelledRow(text, label))
    return rows


def sorted_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Return each label once: in numerical order if all are integers of at most 60 digits,
    else by their characters.
    """
    once = set(labels)
    if all(_INTEGER.fullmatch(label) for label in once):
        return tuple(sorted(once, key=int))
    return tuple(sorted(once))


def hold_out(
    rows: Sequence[LabelledRow], share: float, seed: int
) -> tuple[list[LabelledRow], list[LabelledRow]]:
    """Split rows into training and validation rows, a share of every label, in their order.

    A label of two rows or more has at least one in either split; a single row is trained on.
    """
    chosen: set[int] = set()
    for number, label in enumerate(sorted_labels(row.label for row in rows)):
        places = [place for place, row in enumerate(rows) if row.label == label]
        chosen |= {places[i] for i in drawn(len(places), share, (seed, number))}
    return (
        [row for place, row in enumerate(rows) if place not in chosen],
        [row for place, row in enumerate(rows) if place in chosen],
    )


def _jsonl_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    return read_json_lines(path, dict[str, Any], what="row")


def _csv_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    content = decode(read_bytes(path, _MOST_BYTES), refusal(path))
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    header: list[str] | None = None
    number = 0
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}, row {number + 1}: not CSV ({error})") from error
        number += 1
        if not fields:
            continue
        if header is None:
            header = [name.strip() for name in fields]
            for mark, what in (("\t", "tabs"), (";", "semicolons")):
                if len(header) == 1 and mark in header[0]:
                    raise DataError(
                        f"{path}: its columns are separated by {what}: save it with commas"
                    )
            if len(set(header)) < len(header):
                raise DataError(f"{path}, row {number}: the header names a column twice")
        elif len(fields) != len(header):
            raise DataError(
                f"{path}, row {number}: {len(fields)} fields, the header has {len(header)}; a text "
                'with a comma stands in quotes: "…"'
            )
        else:
            yield number, dict(zip(header, fields, strict=True))


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{place}: the text is {json.dumps(value)[:40]}; expected a string")
    if not value.strip():
        raise DataError(f"{place}: the text is empty")
    return value


def _label(value: Any, place: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        shown = json.dumps(value)[:40]
        raise DataError(f"{place}: the label is {shown}; expected a string or an integer")
    label = str(value).strip()
    if not label:
        raise DataError(f"{place}: the label is empty")
    return label
