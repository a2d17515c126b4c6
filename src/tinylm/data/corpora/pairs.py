"""Pairs from the user's own files: a source that is read, and the target that is written after it.

Files are ``.jsonl``, a pair a line, ``{"source": …, "target": …}``, read as streams and split as in
``split_files``. The key of a pair is its source: where a share is held out, no source of it stands
in the training split, whatever its targets are. Texts are kept as they stand, white space
included, which a lossless tokenizer keeps apart by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm.data.corpora.split_files import SplitFiles
from tinylm.errors import nearest
from tinylm.reading import read_json_lines, refusal, shown
from tinylm.reading.shapes import Refuse

KEYS = ("source", "target")
_ADVICE = 'give {"source": "…", "target": "…"}, or take the line out'


@dataclass(frozen=True)
class Pair:
    """Two texts, neither of them empty."""

    source: str
    """What is read."""
    target: str
    """What is written after it."""


class PairsCorpus(SplitFiles[Pair]):
    """The pairs of the file or folder ``config.path``.

    Raises:
        DataError: as ``SplitFiles`` does.
    """

    suffixes = (".jsonl",)
    item, items, key = "pair", "pairs", "source"

    def train_pairs(self) -> Iterator[Pair]:
        """Yield the training pairs, files in the order of their names, pairs as they stand.

        Raises:
            DataError: for a line that is no pair, naming it, or if there is no pair at all.
        """
        return self._train()

    def validation_pairs(self) -> Iterator[Pair]:
        """Yield the pairs of the validation files, or those held out if there are none.

        Raises:
            DataError: for a line that is no pair, naming it, or if there is no pair at all.
        """
        return self._validation()

    def train(self) -> Iterator[str]:
        """Yield the texts of the training pairs, source and target in turn."""
        return _texts(self.train_pairs())

    def validation(self) -> Iterator[str]:
        """Yield the texts of the validation pairs, source and target in turn."""
        return _texts(self.validation_pairs())

    def _key(self, item: Pair) -> str:
        return item.source

    def _shared(self, number: int) -> str:
        if number:
            return f"the sources of {number:,} validation pairs also occur in the training split"
        return "no source occurs in both"

    def _is_divisible(self, path: Path) -> bool:
        return True

    def _story(self, item: Pair) -> tuple[str, ...]:
        return item.source, item.target

    def _read(self, path: Path, first: int = 0, last: int | None = None) -> Iterator[Pair]:
        rows = read_json_lines(path, dict[str, Any], advice=_ADVICE, first=first, last=last)
        for number, row in rows:
            yield read_pair(row, refusal(f"{path}, line {number}", advice=_ADVICE))


def read_pair(row: dict[str, Any], refuse: Refuse) -> Pair:
    """Return the pair of a line.

    Args:
        row: as JSON gives it.
        refuse: makes the error.

    Raises:
        TinylmError: ``refuse``'s, for a key that is missing or unknown, and for a text that is
            empty or none.
    """
    for key in row:
        if key not in KEYS:
            raise refuse(f"unknown key {shown(key)}{nearest(key, KEYS)}")
    texts = []
    for key in KEYS:
        if key not in row:
            raise refuse(f"{key} is missing")
        value = row[key]
        if not isinstance(value, str):
            raise refuse(f"{key} is {'null' if value is None else shown(value)}, not text")
        if not value.strip():
            raise refuse(f"{key} is empty")
        texts.append(value.replace("\r\n", "\n").replace("\r", "\n"))
    return Pair(*texts)


def _texts(pairs: Iterator[Pair]) -> Iterator[str]:
    for pair in pairs:
        yield pair.source
        yield pair.target
