"""Opening fastText's vector files, plain or in an archive, and reading the text format ``.vec``.

``.vec`` is a line ``count dimension``, then one line a word, most frequent first: the word and its
values, with one space between. It is read line by line, and only the numbers of the vocabulary's
rows are parsed and kept: of the 2 million rows of crawl-300d-2M.vec (2.4 GB as float32) a
vocabulary of 10,000 words keeps 12 MB.
"""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from tinylm.errors import DataError, shown

Progress = Callable[[float], None]
Rows = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]
"""Matrix (words, dimension), has a vector (words,), has it from subwords only (words,)."""

AGAIN = "download or copy it again"
CHUNK = 1 << 18  # bytes read at once; a reader holds a few of them
LONGEST_WORD = 1 << 16  # bytes
_MOST_AT_END = 64  # bytes of empty lines behind the last row
_MOST_DIGITS = 18

_KINDS: dict[str, Literal["vec", "bin"]] = {".bin": "bin", ".vec": "vec", ".txt": "vec"}
_TABS = "its fields are separated by tabs: one space stands between them in a .vec file"
_DAMAGED = (gzip.BadGzipFile, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class OpenVectors:
    """A vector file ready to be read from its first byte."""

    stream: BinaryIO
    name: str
    """What errors call it: the path, and the member of a zip."""
    kind: Literal["vec", "bin"]
    plain: Path | None
    """The file itself where it is not compressed, so that rows can be sought in it."""


@contextmanager
def open_vectors(path: str | Path) -> Iterator[OpenVectors]:
    """Open ``.vec``, ``.txt`` or ``.bin``, or one of these in ``.gz`` or ``.zip``, by its name.

    A zip must hold exactly one such member. Where it holds several kinds, as the official
    ``wiki.*.zip`` do, the one in the archive's name (``x.vec.zip``) is meant, else ``.bin`` goes
    before ``.vec`` (it knows subwords) and ``.vec`` before ``.txt`` (which may be a licence).

    Raises:
        DataError: if the name or the archive's content does not say what to read, if the file
            cannot be opened, and, also while the stream is read, if the archive is damaged.
    """
    path = Path(path)
    outer = path.suffix.lower()
    inner = Path(path.stem).suffix.lower() if outer in (".gz", ".zip") else outer
    if inner == ".ftz":
        fail(str(path), "a quantized model (.ftz) has no plain vectors; take the .bin or .vec")
    if inner not in _KINDS and outer != ".zip":
        allowed = ".vec, .txt or .bin, or one of these with .gz or .zip behind it"
        fail(str(path), f"the name does not tell the format; allowed: {allowed}")
    with ExitStack() as stack:
        try:
            stream: BinaryIO
            if outer == ".zip":
                archive = stack.enter_context(zipfile.ZipFile(path))
                member = _member(archive, path, inner)
                # Reads of a few bytes go through Python code in archives; a buffer makes them rare.
                stream = _buffered(stack.enter_context(archive.open(member)))
                name = f"{path} ({member.filename})"
                inner = PurePosixPath(member.filename).suffix.lower()
            elif outer == ".gz":
                stream, name = _buffered(stack.enter_context(gzip.open(path))), str(path)
            else:
                stream, name = stack.enter_context(path.open("rb")), str(path)
        except _DAMAGED as error:
            raise DataError(f"{path}: damaged archive ({error}); {AGAIN}") from error
        except NotImplementedError as error:
            raise DataError(f"{path}: {error}; unpack it first") from error
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{path}: cannot be read ({reason}); check vectors.path") from error
        plain = path if outer == inner else None
        try:
            yield OpenVectors(stream, name, _KINDS[inner], plain)
        except _DAMAGED as error:
            raise DataError(f"{name}: damaged archive ({error}); {AGAIN}") from error


def _buffered(stream: object) -> BinaryIO:
    return io.BufferedReader(cast(io.RawIOBase, stream), CHUNK)


def _member(archive: zipfile.ZipFile, path: Path, wanted: str) -> zipfile.ZipInfo:
    """Return the one vector file of a zip."""
    for suffix in [wanted] if wanted in _KINDS else list(_KINDS):
        members = [
            info
            for info in archive.infolist()
            # Archives made on macOS hold a file of metadata for each file in this folder.
            if info.filename.lower().endswith(suffix) and not info.filename.startswith("__MACOSX/")
        ]
        if len(members) > 1:
            names = ", ".join(info.filename for info in members[:3])
            fail(str(path), f"holds {len(members)} {suffix} files ({names}); unpack the right one")
        if members:
            if members[0].flag_bits & 1:
                fail(str(path), "the archive is encrypted; unpack it first")
            return members[0]
    kinds = wanted if wanted in _KINDS else ", ".join(_KINDS)
    raise DataError(f"{path}: holds no vector file ({kinds})")


def fail(name: str, problem: str) -> NoReturn:
    """Raise the DataError that names a file, or a place in it, and the problem."""
    raise DataError(f"{name}: {problem}")


def check_dimension(where: str, actual: int, dimension: int) -> None:
    """Refuse vectors of another dimension than was asked for.

    Raises:
        DataError: naming both, and the setting that decides.
    """
    if actual != dimension:
        raise DataError(
            f"{where}: vectors of dimension {actual}, but {dimension} was asked for; "
            f"model.hidden_size is the fastText dimension: set it to {actual}, "
            f"or take vectors of dimension {dimension}"
        )


class Lookup:
    """Which word of the vocabulary a row of the file serves.

    The vocabulary is lower case and official lists are not: a row of exactly the word is best;
    failing that, the first row whose lower-cased form is the word, which is the most frequent cased
    form because lists are ordered by frequency.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._by_bytes = {word.encode("utf-8", "surrogatepass"): i for i, word in enumerate(words)}
        self._by_word = {word: i for i, word in enumerate(words)}
        if len(self._by_word) != len(words):
            raise ValueError("words must be different from each other")
        self._has_exact = bytearray(len(words))
        self._has_any = bytearray(len(words))

    def claim(self, form: bytes) -> int | None:
        """Return the index of the word that this row serves better than all rows before it."""
        index = self._by_bytes.get(form)
        if index is not None:
            if self._has_exact[index]:
                return None
            self._has_exact[index] = self._has_any[index] = 1
            return index
        # Bytes that are not UTF-8 become lone surrogates, which no vocabulary word holds.
        index = self._by_word.get(form.decode("utf-8", "surrogateescape").lower())
        if index is None or self._has_any[index]:
            return None
        self._has_any[index] = 1
        return index


def read_vec(
    source: OpenVectors, words: Sequence[str], dimension: int, progress: Progress | None = None
) -> Rows:
    """Read the rows of ``words`` from a ``.vec`` stream, line by line.

    Every line's number of values is checked, the numbers of needed rows only.

    Raises:
        DataError: naming file and line, for a bad header, another dimension, a row with a wrong
            number of values, a value that is no finite number, and a number of rows that is not
            the header's.
    """
    name, stream = source.name, source.stream
    # A file without line ends must not be read into memory as one line.
    limit = 64 * dimension + LONGEST_WORD
    count = _vec_header(name, stream.readline(limit), dimension)
    matrix = np.zeros((len(words), dimension), np.float32)
    has_vector = np.zeros(len(words), np.bool_)
    lookup = Lookup(words)
    for row in range(count):
        line = stream.readline(limit)
        if not line:
            fail(
                f"{name}, line {row + 2}",
                f"the file ends after {row} rows, but its header says {count}: it is truncated; "
                f"{AGAIN}",
            )
        text = line.rstrip(b"\r\n").removesuffix(b" ")  # fastText itself leaves a space at the end
        spaces = text.count(b" ")
        if spaces == dimension:
            form = text[: text.index(b" ")]
        else:
            # From the right, since a word of some other tool's list may hold a space.
            form = text.rsplit(b" ", dimension)[0]
            if text.count(b"\t") >= dimension:
                fail(f"{name}, line {row + 2}", _TABS)
            if spaces < dimension or _is_number(form.rpartition(b" ")[2]):
                hint = "" if line.endswith(b"\n") else "; the file ends here, is it truncated?"
                if len(line) == limit:
                    hint = "; the line is far too long, is this a text file?"
                fail(
                    f"{name}, line {row + 2}",
                    f"{spaces} values, but the header says {dimension}{hint}",
                )
        index = lookup.claim(form)
        if index is not None:
            matrix[index] = _numbers(name, row + 2, text[len(form) + 1 :])
            has_vector[index] = True
        if progress is not None and row % 4096 == 0:
            progress(row / count)
    # Reading on to the end also makes an archive check its checksum. An empty line may stand there.
    if stream.read(_MOST_AT_END + 1).strip() or stream.read(1):
        fail(f"{name}, line {count + 2}", f"more rows than the {count} of the header")
    if progress is not None:
        progress(1.0)
    return matrix, has_vector, np.zeros(len(words), np.bool_)


def _vec_header(name: str, line: bytes, dimension: int) -> int:
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        fail(f"{name}, line 1", "is UTF-16 text, not UTF-8: save it as UTF-8")
    fields = line.removeprefix(codecs.BOM_UTF8).split()
    if b"\t" in line and len(fields) == 2:
        fail(f"{name}, line 1", _TABS)
    if len(fields) != 2 or not all(f.isdigit() and len(f) <= _MOST_DIGITS for f in fields):
        start = line[:40].decode("utf-8", "replace").strip()
        fail(f"{name}, line 1", f"expected the header `count dimension`, found {start!r}")
    check_dimension(f"{name}, line 1", int(fields[1]), dimension)
    return int(fields[0])


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return not text  # two spaces in a row: a value is missing
    return True


def _numbers(name: str, line: int, text: bytes) -> NDArray[np.float32]:
    values = []
    for field in text.split(b" "):
        try:
            if b"_" in field:  # Python's own 1_000
                raise ValueError
            values.append(float(field))
        except ValueError:
            given = field.decode("utf-8", "replace")
            fail(f"{name}, line {line}", f"{shown(given)} is not a number")
    with np.errstate(over="ignore"):
        row = np.array(values, np.float64).astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(row))
    if bad.size:
        fail(f"{name}, line {line}", f"value {bad[0] + 1} is {values[bad[0]]}, not finite; {AGAIN}")
    return row
