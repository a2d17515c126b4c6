"""The user's own files, split by name or by a hash: what corpora that read ``data.path`` share.

Files of a folder (and of its subfolders) are split by name: a part ``train`` makes a training file,
``valid``, ``validation`` or ``val`` a validation file, in the file's own name or else in a folder's
(``train/a.txt``). A part ``test`` sets a file aside, so that test text is never trained on. Other
files are training files if none is marked so, and are left out (and named by ``describe``) if some
are. Without a validation file, an item is held out when a seeded hash of its key falls below
``data.validation_fraction``: the same key always falls into the same split, wherever it stands.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from tinylm.config import DataConfig
from tinylm.errors import DataError
from tinylm.fingerprints import fingerprint_of

Item = TypeVar("Item")
"""What a corpus is made of: a story, or a pair."""
_PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst")
_NAME_PARTS = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class File:
    """One file of the corpus: where it is, and its name relative to the corpus."""

    path: Path
    name: str


@dataclass(frozen=True)
class _Totals:
    """What one pass over both splits counts."""

    train: int
    validation: int
    shared: int
    """Validation items whose key is also that of a training item."""


class SplitFiles(ABC, Generic[Item]):
    """Items of the files at ``config.path``.

    Raises:
        DataError: if the path is missing, holds no usable file, has no training file, or names a
            file as both train and validation.
    """

    suffixes: ClassVar[tuple[str, ...]]
    """Of the files that it reads."""
    item: ClassVar[str]
    items: ClassVar[str]
    """What is read is called, one of it and several."""
    key: ClassVar[str]
    """What of an item decides its split, as a whole is called: ``text``."""
    reader_version: ClassVar[int] = 1
    """Counted up when the same files give other items."""

    def __init__(self, config: DataConfig) -> None:
        if not config.path:
            raise DataError(
                f"corpus `{config.corpus}` needs data.path: give a folder or file "
                "(-o data.path=PATH)"
            )
        self._config = config
        self._root = Path(config.path).expanduser()
        files = _find(self._root, self.suffixes)
        groups: dict[str, list[File]] = {"train": [], "validation": [], "test": [], "": []}
        for file in files:
            groups[_split_of(file, self._root) if self._root.is_dir() else ""].append(file)
        marked = bool(groups["train"])
        self._train_files = groups["train"] or groups[""]
        self._validation_files = groups["validation"]
        self._left_out = [*groups["test"], *(groups[""] if marked else [])]
        if not self._train_files:
            raise DataError(
                f"{self._root}: no training file among {_names(files)}: "
                f"name one with the part `train`, as in {self.items}-train{self.suffixes[0]}"
            )

    @abstractmethod
    def _read(self, path: Path, first: int = 0, last: int | None = None) -> Iterator[Item]:
        """Yield what a file holds, in order; of a divisible one what begins between two bytes.

        Raises:
            DataError: if it cannot be read as what it is.
            OSError: if it cannot be read.
        """

    @abstractmethod
    def _key(self, item: Item) -> str:
        """Return what decides an item's split."""

    @abstractmethod
    def _is_divisible(self, path: Path) -> bool:
        """Whether reading can begin anywhere in a file."""

    @abstractmethod
    def _story(self, item: Item) -> tuple[str, ...]:
        """Return the texts of an item."""

    def _reading(self) -> dict[str, Any]:
        """Return the settings that decide what is read of the files, for the fingerprint."""
        return {}

    def _too_few(self) -> str | None:
        """Return why a split cannot but be empty, if that is known without reading."""
        return None

    def _train(self) -> Iterator[Item]:
        """Yield the training items, files in the order of their names, items as they stand.

        Raises:
            DataError: if a file cannot be read as what it is, or if there is no item at all.
        """
        items = self._items(self._train_files)
        if not self._validation_files:
            items = (item for item in items if not self._is_held_out(item))
        problem = (
            f"{self._root}: no training {self.items} in {_names(self._train_files)}: give more text"
        )
        return _some(items, self._config.train_stories, self._too_few() or problem)

    def _validation(self) -> Iterator[Item]:
        """Yield the items of the validation files, or those held out if there are none.

        Raises:
            DataError: if a file cannot be read as what it is, or if there is no item at all.
        """
        most = self._config.validation_stories
        if self._validation_files:
            problem = (
                f"{self._root}: no {self.items} in {_names(self._validation_files)}: give more text"
            )
            return _some(self._items(self._validation_files), most, problem)
        held_out = filter(self._is_held_out, self._items(self._train_files))
        problem = (
            f"{self._root}: no {self.item} was held out at data.validation_fraction = "
            f"{self._config.validation_fraction}: raise it, give more {self.items}, or a "
            "validation file"
        )
        return _some(held_out, most, self._too_few() or problem)

    def parts(self, split: str, size: int) -> list[tuple[int, int]] | None:
        """Return into which parts a split can be divided that are read each by itself.

        Args:
            split: train or validation.
            size: bytes of a part at most; all are as long, to a byte.

        Returns:
            The first byte of each and that behind its last, of all files one after the other, or
            None if the split is read in order alone: a number of items is asked for, or files are
            of a kind that is.

        Raises:
            DataError: if a file is not there.
        """
        files, most = self._files_of(split)
        if most is not None or not all(self._is_divisible(file.path) for file in files):
            return None
        total = sum(_size(file) for file in files)
        number = max(1, -(-total // size))
        bounds = [total * place // number for place in range(number + 1)]
        return list(itertools.pairwise(bounds))

    def part(self, split: str, first: int, last: int) -> Iterator[tuple[str, ...]]:
        """Yield the texts of the items of a split that begin in a part.

        Raises:
            DataError: if a file cannot be read as what it is; lines are counted from the part.
        """
        begin = 0
        held_out = split == "validation" and not self._validation_files
        for file in self._files_of(split)[0]:
            end = begin + _size(file)
            if begin < last and first < end:
                try:
                    for item in self._read(file.path, max(0, first - begin), last - begin):
                        if self._validation_files or self._is_held_out(item) == held_out:
                            yield self._story(item)
                except OSError as error:
                    raise unreadable(file.path, error) from error
            begin = end

    def _files_of(self, split: str) -> tuple[list[File], int | None]:
        """Return the files that a split is read from, and how many items at most."""
        if split == "train":
            return self._train_files, self._config.train_stories
        return self._validation_files or self._train_files, self._config.validation_stories

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that name the files' content and the settings that matter.

        The files are read once (SHA-256, seconds for 2 GB); the answer is kept.

        Raises:
            DataError: if a file cannot be read.
        """
        return self._fingerprint

    def describe(self) -> str:
        """Return one sentence: files, numbers of items, hold-out, and what the splits share.

        Counting takes a pass over both splits; the answer is kept.

        Raises:
            DataError: as reading the splits does.
        """
        totals = self._totals
        sentence = f"{totals.train:,} training {self.items} from {_names(self._train_files)}"
        if self._validation_files:
            sentence += (
                f" and {totals.validation:,} validation {self.items} from "
                f"{_names(self._validation_files)} ({self._shared(totals.shared)})"
            )
        else:
            sentence += (
                f"; there is no validation file, so {totals.validation:,} other {self.items} "
                f"(a share of {self._config.validation_fraction:g}, by a hash of the {self.key} "
                f"with seed {self._config.seed}) are held out for validation"
            )
        place = self._root if self._root.is_dir() else self._root.parent
        sentence += f"; folder {place}"
        if self._left_out:
            sentence += f"; not used: {_names(self._left_out)}"
        return sentence + "."

    def counted(self, train: int, validation: int) -> None:
        """Take the numbers of items of both splits, which ``describe`` then need not count.

        With validation files it reads them nevertheless, to find what the splits share.
        """
        if not self._validation_files:
            self.__dict__["_totals"] = _Totals(train, validation, 0)

    @abstractmethod
    def _shared(self, number: int) -> str:
        """Return how many validation items have the key of a training item, in words."""

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
                    raise unreadable(file.path, error) from error
            files.append(entries)
        content = {
            "reader": self.reader_version,
            "files": files,
            **self._reading(),
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
        for item in self._validation():
            validation += 1
            key = _digest(self._key(item))
            repeats[key] = repeats.get(key, 0) + 1
        train = 0
        for item in self._train():
            train += 1
            key = _digest(self._key(item))
            if key in repeats:
                held.add(key)
        return _Totals(train, validation, sum(repeats[key] for key in held))

    def _is_held_out(self, item: Item) -> bool:
        digest = _digest(self._key(item), f"seed {self._config.seed}")
        place = int.from_bytes(digest[:8], "big")
        return place < self._config.validation_fraction * 2**64

    def _items(self, files: Iterable[File]) -> Iterator[Item]:
        for file in files:
            try:
                yield from self._read(file.path)
            except OSError as error:
                raise unreadable(file.path, error) from error


def _find(root: Path, suffixes: Sequence[str]) -> list[File]:
    """Return the readable kinds of file below ``root``, ordered by name."""
    kinds = ", ".join(suffixes)
    try:
        if root.is_file():
            if root.suffix.lower() in _PACKED:
                raise DataError(f"{root} is packed: unpack it first, and give one of {kinds}")
            if root.suffix.lower() not in suffixes:
                raise DataError(f"{root}: cannot read this kind of file: give one of {kinds}")
            return [File(root, root.name)]
        if not root.is_dir():
            raise DataError(f"data.path {root} does not exist: give a folder or a file ({kinds})")
        visible = [
            File(path, path.relative_to(root).as_posix())
            for path in root.rglob("*")
            if not any(part.startswith(".") for part in path.relative_to(root).parts)
            and path.is_file()
        ]
        readable = [file for file in visible if file.path.suffix.lower() in suffixes]
    except OSError as error:
        raise unreadable(root, error) from error
    for file in visible:
        if file.path.suffix.lower() in _PACKED:
            unpacked = file.path.with_suffix("")
            if unpacked.suffix.lower() in suffixes and not unpacked.exists():
                raise DataError(f"{file.path} is packed: unpack it, or move it out of the folder")
    if not readable:
        raise DataError(f"{root}: no {kinds} files in this folder: give one that holds some")
    return sorted(readable, key=lambda file: file.name)


def _split_of(file: File, root: Path) -> str:
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


def _size(file: File) -> int:
    try:
        return file.path.stat().st_size
    except OSError as error:
        raise unreadable(file.path, error) from error


def _names(files: list[File], most: int = 4) -> str:
    names = [file.name for file in files[:most]]
    if len(files) > most:
        names.append(f"{len(files) - most:,} more")
    return ", ".join(names)


def _digest(key: str, salt: str = "") -> bytes:
    return hashlib.blake2b(f"{salt}\n{key}".encode(), digest_size=16).digest()


def _some(items: Iterator[Item], most: int | None, problem: str) -> Iterator[Item]:
    """Yield at most ``most`` items, and refuse to yield none."""
    count = 0
    for item in itertools.islice(items, most):
        count += 1
        yield item
    if not count:
        raise DataError(problem)


def unreadable(path: Path, error: OSError) -> DataError:
    """Return the error of a file or folder that the system does not give."""
    problem = error.strerror or " ".join(str(error).split())
    return DataError(f"{path}: cannot be read ({problem}): check the path and rights")
