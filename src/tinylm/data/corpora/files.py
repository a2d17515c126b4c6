"""Stories from the user's own files: ``.txt``, ``.jsonl`` and ``.parquet``, read as streams.

How the files are split is told in ``split_files``; the key of a story is its text. Nothing is read
whole but a single document: text in chunks of 1 MB, parquet in batches of 1,024 rows; a 2 GB file
takes a few MB of memory. In return every pass parses the files again, and a hold-out pass also
reads what it then leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tinylm.config import DataConfig
from tinylm.data.corpora.split_files import SplitFiles, unreadable
from tinylm.errors import DataError
from tinylm.reading import decode, lines, read_bytes, read_json_lines, refusal, shown

MARKER = b"<|endoftext|>"
_CHUNK_BYTES = 1 << 20
_BATCH_ROWS = 1024
_MOST_DOCUMENT_BYTES = 1 << 28


class FilesCorpus(SplitFiles[str]):
    """The stories of the file or folder ``config.path``.

    Raises:
        DataError: as ``SplitFiles`` does, and for ``.txt`` files that need ``data.text_format``.
    """

    suffixes = (".txt", ".jsonl", ".parquet")
    item, items, key = "story", "stories", "text"

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self._text_format = config.text_format
        used = [*self._train_files, *self._validation_files]
        texts = [file for file in used if file.path.suffix.lower() == ".txt"]
        if self._text_format == "auto":
            for file in texts:
                _check_marker(file.path)
            self._text_format = "endoftext"
        self._is_one_document = self._text_format == "file" and len(used) == len(texts) == 1
        self._has_texts = bool(texts)
        self._has_fields = len(texts) < len(used)

    def train(self) -> Iterator[str]:
        """Yield the training stories, files in the order of their names, stories as they stand.

        Raises:
            DataError: if a file cannot be read as what it is, or if there is no story at all.
        """
        return self._train()

    def validation(self) -> Iterator[str]:
        """Yield the stories of the validation files, or those held out if there are none.

        Raises:
            DataError: if a file cannot be read as what it is, or if there is no story at all.
        """
        return self._validation()

    def _key(self, item: str) -> str:
        return item

    def _shared(self, number: int) -> str:
        if number:
            return f"{number:,} of the validation stories also occur in the training split"
        return "no story occurs in both"

    def _reading(self) -> dict[str, Any]:
        return {
            "text_format": self._text_format if self._has_texts else None,
            "text_field": self._config.text_field if self._has_fields else None,
        }

    def _too_few(self) -> str | None:
        if not self._is_one_document:
            return None
        return (
            f"{self._train_files[0].path} is one document with data.text_format = file, and one to "
            "train on and one to validate on are needed: set it to `blank-line`, or give more files"
        )

    def _read(self, path: Path, first: int = 0, last: int | None = None) -> Iterator[str]:
        for text in self._documents(path, first, last):
            if "\r" in text:
                text = text.replace("\r\n", "\n").replace("\r", "\n")
            text = text.strip()
            if text:
                yield text

    def _is_divisible(self, path: Path) -> bool:
        suffix = path.suffix.lower()
        return suffix == ".jsonl" or (suffix == ".txt" and self._text_format == "endoftext")

    def _story(self, item: str) -> tuple[str, ...]:
        return (item,)

    def _documents(self, path: Path, first: int, last: int | None) -> Iterator[str]:
        suffix = path.suffix.lower()
        if suffix == ".jsonl":
            return _read_jsonl(path, self._config.text_field, first, last)
        if suffix == ".parquet":
            return _read_parquet(path, self._config.text_field)
        if self._text_format == "file":
            return _read_whole(path)
        if self._text_format == "blank-line":
            return _read_blank_line(path)
        return _read_marked(path, first, last)


def _check_marker(path: Path) -> None:
    """Refuse a ``.txt`` file of unstated format that does not contain the dataset's marker."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_CHUNK_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error
    if not head.strip():
        raise DataError(f"{path} is empty: give one with text, or take it away")
    if MARKER not in head:
        # A file that is no text, or in another encoding, is refused as such.
        end = len(head) - 8
        while end > 0 and head[end] & 0xC0 == 0x80:  # not in the middle of a character
            end -= 1
        decode(head[: max(0, end)], refusal(path))
        raise DataError(
            f"{path}: no {MARKER.decode()} in its first MB, so where documents end is not known: "
            "put one after each, or give -o data.text_format=file (one document a file), "
            "data.text_format=blank-line or data.text_format=endoftext"
        )


# --- reading -------------------------------------------------------------------------------------


def _read_marked(path: Path, first: int, last: int | None) -> Iterator[str]:
    """Yield the texts between ``<|endoftext|>`` markers; the last needs none.

    Those alone that begin at a byte from ``first`` to before ``last``.
    """
    refuse = refusal(path)
    begun = first == 0
    with path.open("rb") as stream:
        offset = stream.seek(max(0, first - len(MARKER)))  # a marker that ends at ``first`` counts
        rest = bytearray()  # read, but not yet closed by a marker
        while chunk := stream.read(_CHUNK_BYTES):
            # A marker may straddle the chunks, but cannot lie in what was searched before.
            search = max(0, len(rest) - len(MARKER) + 1)
            rest += chunk
            start = 0
            while (end := rest.find(MARKER, search)) >= 0:
                if begun:
                    yield decode(rest[start:end], refuse, offset + start)
                begun = True
                start = search = end + len(MARKER)
                if last is not None and offset + start >= last:
                    return
            del rest[:start]
            offset += start
            _refuse_longer(len(rest), path)
        if begun:
            yield decode(rest, refuse, offset)


def _read_whole(path: Path) -> Iterator[str]:
    _refuse_longer(path.stat().st_size, path)
    yield decode(read_bytes(path, _MOST_DOCUMENT_BYTES), refusal(path))


def _read_blank_line(path: Path) -> Iterator[str]:
    """Yield the paragraphs between lines that hold nothing but white space."""
    paragraph: list[str] = []
    length = 0
    with path.open("rb") as stream:
        for _, line in lines(stream, path):
            if line.strip():
                paragraph.append(line)
                length += len(line)
                _refuse_longer(length, path)
            elif paragraph:
                yield "".join(paragraph)
                paragraph, length = [], 0
    yield "".join(paragraph)


def _refuse_longer(length: int, path: Path) -> None:
    if length > _MOST_DOCUMENT_BYTES:
        raise DataError(
            f"{path}: a document of more than {_MOST_DOCUMENT_BYTES:,} bytes; set data.text_format "
            "so that it is cut into documents, or split it"
        )


def _read_jsonl(path: Path, field: str, first: int, last: int | None) -> Iterator[str]:
    rows = read_json_lines(path, dict[str, Any], advice="mend the line", first=first, last=last)
    for number, row in rows:
        if field not in row:
            raise DataError(
                f"{path}, line {number}: no field {shown(field)} among "
                f"{', '.join(map(shown, row))}: "
                "set data.text_field, or data.corpus=pairs for sources with targets"
            )
        yield _text(row[field], f"{path}, line {number}", field)


def _read_parquet(path: Path, field: str) -> Iterator[str]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            if field not in columns:
                raise DataError(
                    f"{path}, row 1: no field {shown(field)} among "
                    f"{', '.join(map(shown, columns))}: "
                    "set data.text_field"
                )
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[field]):
                for value in batch.column(0):
                    number += 1
                    yield _text(value.as_py(), f"{path}, row {number}", field)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, row {number}: not UTF-8 ({error.reason}): mend it") from error
    except pa.ArrowException as error:
        problem = " ".join(str(error).split())
        raise DataError(
            f"{path}: not a readable parquet file ({problem}): write it anew"
        ) from error


def _text(value: object, place: str, field: str) -> str:
    if not isinstance(value, str):
        what = "no text" if value is None else f"{shown(value)}, not text"
        raise DataError(
            f"{place}: field {shown(field)} holds {what}: mend it, or set data.text_field"
        )
    return value
