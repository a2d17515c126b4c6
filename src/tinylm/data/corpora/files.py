"""Stories from the user's own files: ``.txt``, ``.jsonl`` and ``.parquet``, read as streams.

Files of a folder (and of its subfolders) are split by name: a part ``train`` makes a training file,
``valid``, ``validation`` or ``val`` a validation file, in the file's own name or else in a folder's
(``train/a.txt``). A part ``test`` sets a file aside, so that test text is never trained on. Other
files are training files if none is marked so, and are left out (and named by ``describe``) if some
are. Without a validation file, a story is held out when a seeded hash of its text falls below
``data.validation_fraction``: the same text always falls into the same split, wherever it stands.

Nothing is read whole but a single document: text in chunks of 1 MB, parquet in batches of 1,024
rows; a 2 GB file takes a few MB of memory. In return every pass parses the files again, and a
hold-out pass also reads what it then leaves out.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tinylm.config import DataConfig
from tinylm.errors import DataError
from tinylm.fingerprints import fingerprint_of
from tinylm.reading import decode, lines, read_bytes, read_json_lines, refusal, shown

MARKER = b"<|endoftext|>"
SUFFIXES = (".txt", ".jsonl", ".parquet")
_CHUNK_BYTES = 1 << 20
_BATCH_ROWS = 1024
_MOST_DOCUMENT_BYTES = 1 << 28
_PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst")
_READER_VERSION = 1
_NAME_PARTS = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class _File:
    """One file of the corpus: where it is, and its name relative to the corpus."""

    path: Path
    name: str


@dataclass(frozen=True)
class _Totals:
    """What one pass over both splits counts."""

    train: int
    validation: int
    shared: int
    """Validation stories whose text is also a training story."""


class FilesCorpus:
    """The stories of the file or folder ``config.path``.

    Raises:
        DataError: if the path is missing, holds no usable file, has no training file, names a file
            as both train and validation, or holds ``.txt`` files that need ``data.text_format``.
    """

    def __init__(self, config: DataConfig) -> None:
        if not config.path:
            raise DataError("corpus `files` needs data.path: give a folder or file (--data PATH)")
        self._config = config
        self._root = Path(config.path).expanduser()
        files = _find(self._root)
        groups: dict[str, list[_File]] = {"train": [], "validation": [], "test": [], "": []}
        for file in files:
            groups[_split_of(file, self._root) if self._root.is_dir() else ""].append(file)
        marked = bool(groups["train"])
        self._train_files = groups["train"] or groups[""]
        self._validation_files = groups["validation"]
        self._left_out = [*groups["test"], *(groups[""] if marked else [])]
        if not self._train_files:
            raise DataError(
                f"{self._root}: no training file among {_names(files)}: "
                "name one with the part `train`, as in stories-train.txt"
            )
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
        stories = self._stories(self._train_files)
        if not self._validation_files:
            stories = (story for story in stories if not self._is_held_out(story))
        problem = (
            f"{self._root}: no training stories in {_names(self._train_files)}: give more text"
        )
        if self._is_one_document:
            problem = self._one_document
        return _some(stories, self._config.train_stories, problem)

    def validation(self) -> Iterator[str]:
        """Yield the stories of the validation files, or those held out if there are none.

        Raises:
            DataError: if a file cannot be read as what it is, or if there is no story at all.
        """
        if self._validation_files:
            stories = self._stories(self._validation_files)
            problem = (
                f"{self._root}: no stories in {_names(self._validation_files)}: give more text"
            )
        else:
            stories = filter(self._is_held_out, self._stories(self._train_files))
            problem = (
                f"{self._root}: no story was held out at data.validation_fraction = "
                f"{self._config.validation_fraction}: raise it, give more stories, or a "
                "validation file"
            )
            if self._is_one_document:
                problem = self._one_document
        return _some(stories, self._config.validation_stories, problem)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that name the files' content and the settings that matter.

        The files are read once (SHA-256, seconds for 2 GB); the answer is kept.

        Raises:
            DataError: if a file cannot be read.
        """
        return self._fingerprint

    def describe(self) -> str:
        """Return one sentence: files, numbers of stories, hold-out, and what the splits share.

        Counting takes a pass over both splits; the answer is kept.

        Raises:
            DataError: as ``train`` and ``validation`` do.
        """
        totals = self._totals
        sentence = f"{totals.train:,} training stories from {_names(self._train_files)}"
        if self._validation_files:
            sentence += (
                f" and {totals.validation:,} validation stories from "
                f"{_names(self._validation_files)}"
            )
            if totals.shared:
                sentence += (
                    f" ({totals.shared:,} of the validation stories also occur in the training "
                    "split)"
                )
            else:
                sentence += " (no story occurs in both)"
        else:
            sentence += (
                f"; there is no validation file, so {totals.validation:,} other stories "
                f"(a share of {self._config.validation_fraction:g}, by a hash of the text with "
                f"seed {self._config.seed}) are held out for validation"
            )
        place = self._root if self._root.is_dir() else self._root.parent
        sentence += f"; folder {place}"
        if self._left_out:
            sentence += f"; not used: {_names(self._left_out)}"
        return sentence + "."

    @property
    def _one_document(self) -> str:
        return (
            f"{self._train_files[0].path} is one document with data.text_format = file, and one to "
            "train on and one to validate on are needed: set it to `blank-line`, or give more files"
        )

    @functools.cached_property
    def _fingerprint(self) -> str:
        config = self._config
        files = []
        for split in (self._train_files, self._validation_files):
            entries = []
            for file in split:
                try:
                    with file.path.open("rb") as stream:
                        digest = hashlib.file_digest(stream, "sha256").hexdigest()
                        entries.append([file.name, stream.tell(), digest])
                except OSError as error:
                    raise _unreadable(file.path, error) from error
            files.append(entries)
        content = {
            "reader": _READER_VERSION,
            "files": files,
            "text_format": self._text_format if self._has_texts else None,
            "text_field": config.text_field if self._has_fields else None,
            "hold_out": (
                None if self._validation_files else [config.validation_fraction, config.seed]
            ),
            "caps": [config.train_stories, config.validation_stories],
        }
        return fingerprint_of(content)

    @functools.cached_property
    def _totals(self) -> _Totals:
        validation = 0
        held: set[bytes] = set()
        repeats: dict[bytes, int] = {}
        for story in self.validation():
            validation += 1
            key = _digest(story)
            repeats[key] = repeats.get(key, 0) + 1
        train = 0
        for story in self.train():
            train += 1
            key = _digest(story)
            if key in repeats:
                held.add(key)
        return _Totals(train, validation, sum(repeats[key] for key in held))

    def _is_held_out(self, story: str) -> bool:
        place = int.from_bytes(_digest(story, f"seed {self._config.seed}")[:8], "big")
        return place < self._config.validation_fraction * 2**64

    def _stories(self, files: Iterable[_File]) -> Iterator[str]:
        for file in files:
            try:
                for text in self._documents(file.path):
                    if "\r" in text:
                        text = text.replace("\r\n", "\n").replace("\r", "\n")
                    text = text.strip()
                    if text:
                        yield text
            except OSError as error:
                raise _unreadable(file.path, error) from error

    def _documents(self, path: Path) -> Iterator[str]:
        suffix = path.suffix.lower()
        if suffix == ".jsonl":
            return _read_jsonl(path, self._config.text_field)
        if suffix == ".parquet":
            return _read_parquet(path, self._config.text_field)
        if self._text_format == "file":
            return _read_whole(path)
        if self._text_format == "blank-line":
            return _read_blank_line(path)
        return _read_marked(path)


# --- finding files -------------------------------------------------------------------------------


def _find(root: Path) -> list[_File]:
    """Return the readable kinds of file below ``root``, ordered by name."""
    kinds = ", ".join(SUFFIXES)
    try:
        if root.is_file():
            if root.suffix.lower() in _PACKED:
                raise DataError(f"{root} is packed: unpack it first, and give one of {kinds}")
            if root.suffix.lower() not in SUFFIXES:
                raise DataError(f"{root}: cannot read this kind of file: give one of {kinds}")
            return [_File(root, root.name)]
        if not root.is_dir():
            raise DataError(f"data.path {root} does not exist: give a folder or a file ({kinds})")
        visible = [
            _File(path, path.relative_to(root).as_posix())
            for path in root.rglob("*")
            if not any(part.startswith(".") for part in path.relative_to(root).parts)
            and path.is_file()
        ]
        readable = [file for file in visible if file.path.suffix.lower() in SUFFIXES]
    except OSError as error:
        raise _unreadable(root, error) from error
    for file in visible:
        if file.path.suffix.lower() in _PACKED:
            unpacked = file.path.with_suffix("")
            if unpacked.suffix.lower() in SUFFIXES and not unpacked.exists():
                raise DataError(f"{file.path} is packed: unpack it, or move it out of the folder")
    if not readable:
        raise DataError(f"{root}: no {kinds} files in this folder: give one that holds some")
    return sorted(readable, key=lambda file: file.name)


def _split_of(file: _File, root: Path) -> str:
    """Return train, validation, test or "" from the parts of the name, the innermost first."""
    folders, _, name = file.name.rpartition("/")
    for level in (name.rpartition(".")[0], *reversed(folders.split("/"))):
        splits = {
            _NAME_PARTS[part] for part in re.split(r"[^a-z]+", level.lower()) if part in _NAME_PARTS
        }
        if len(splits) > 1:
            raise DataError(
                f"{root / file.name}: the name says {' and '.join(sorted(splits))}: "
                "rename it to say one"
            )
        if splits:
            return splits.pop()
    return ""


def _names(files: list[_File], most: int = 4) -> str:
    names = [file.name for file in files[:most]]
    if len(files) > most:
        names.append(f"{len(files) - most:,} more")
    return ", ".join(names)


def _check_marker(path: Path) -> None:
    """Refuse a ``.txt`` file of unstated format that does not contain the dataset's marker."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_CHUNK_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not head.strip():
        raise DataError(f"{path} is empty: give one with text, or take it away")
    if MARKER not in head:
        # A file that is no text, or in another encoding, is refused as such.
        decode(head[: len(head) - 8], refusal(path))
        raise DataError(
            f"{path}: no {MARKER.decode()} in its first MB, so where documents end is not known: "
            "put one after each, or give -o data.text_format=file (one document a file), "
            "data.text_format=blank-line or data.text_format=endoftext"
        )


# --- reading -------------------------------------------------------------------------------------


def _read_marked(path: Path) -> Iterator[str]:
    """Yield the texts between ``<|endoftext|>`` markers; the last needs none."""
    refuse = refusal(path)
    with path.open("rb") as stream:
        offset = 0
        rest = bytearray()  # read, but not yet closed by a marker
        while chunk := stream.read(_CHUNK_BYTES):
            # A marker may straddle the chunks, but cannot lie in what was searched before.
            search = max(0, len(rest) - len(MARKER) + 1)
            rest += chunk
            start = 0
            while (end := rest.find(MARKER, search)) >= 0:
                yield decode(rest[start:end], refuse, offset + start)
                start = search = end + len(MARKER)
            del rest[:start]
            offset += start
            _refuse_longer(len(rest), path)
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


def _read_jsonl(path: Path, field: str) -> Iterator[str]:
    for number, row in read_json_lines(path, dict[str, Any], advice="mend the line"):
        if field not in row:
            raise DataError(
                f"{path}, line {number}: no field {shown(field)} among "
                f"{', '.join(map(shown, row))}: "
                "set data.text_field"
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


def _digest(story: str, salt: str = "") -> bytes:
    return hashlib.blake2b(f"{salt}\n{story}".encode(), digest_size=16).digest()


def _some(stories: Iterator[str], most: int | None, problem: str) -> Iterator[str]:
    """Yield at most ``most`` stories, and refuse to yield none."""
    count = 0
    for story in itertools.islice(stories, most):
        count += 1
        yield story
    if not count:
        raise DataError(problem)


def _unreadable(path: Path, error: OSError) -> DataError:
    problem = error.strerror or " ".join(str(error).split())
    return DataError(f"{path}: cannot be read ({problem}): check the path and rights")
