"""Reader of fastText's ``.bin`` models that keeps only what a vocabulary needs.

The format (Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information"; layout of
fastText's ``fasttext.cc``, ``args.cc``, ``dictionary.cc`` and ``densematrix.cc``, little-endian)::

    int32 793712314, int32 version
    int32 dim, ws, epoch, minCount, neg, wordNgrams, loss, model, bucket, minn, maxn, lrUpdateRate
    float64 t
    int32 size, nwords, nlabels;  int64 ntokens, pruneidx_size
    size times: word, NUL, int64 count, int8 type
    bool quantized;  int64 rows = nwords + bucket, columns = dim;  float32 rows x columns
    bool quantized output;  int64 rows, columns;  float32 rows x columns

A word's vector is the mean of its own row and of the rows of its character n-grams; a word outside
the dictionary has only the n-grams. Nothing here holds the matrix: that of cc.en.300.bin takes
4.8 GB, the sums for 10,000 words 24 MB. An archive is read once, from front to back; of a plain
``.bin`` only the dictionary and the needed rows are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from tinylm.data.fasttext_files import (
    AGAIN,
    CHUNK,
    LONGEST_WORD,
    Lookup,
    OpenVectors,
    Progress,
    Rows,
    check_dimension,
    fail,
)

MAGIC = 793712314
VERSIONS = (11, 12)  # alike but for supervised models, which are refused
SUPERVISED = 3
END_OF_SENTENCE = "</s>"


@dataclass(frozen=True)
class _Header:
    dimension: int
    buckets: int
    min_n: int
    max_n: int
    num_words: int


def read_bin(
    source: OpenVectors, words: Sequence[str], dimension: int, progress: Progress | None = None
) -> Rows:
    """Read the vectors of ``words`` from a ``.bin`` model: their rows' and n-grams' means.

    A word that is neither in the dictionary, in any case, nor has an n-gram has no vector.

    Raises:
        DataError: naming file and byte offset (of the unpacked stream) or row, for another format
            or dimension, a supervised, pruned or quantized model, a truncated or overlong file and
            a needed row that is not finite.
    """
    reader = _Reader(source.stream, source.name)
    report = progress or (lambda _: None)
    header = _bin_header(reader, dimension)
    forms, own_rows = _bin_dictionary(reader, header, words, lambda done: report(0.1 * done))
    start = _bin_matrix_start(reader, header)

    pairs = []  # (row of the file's matrix, word that it is part of)
    for index, (form, own_row) in enumerate(zip(forms, own_rows, strict=True)):
        if own_row >= 0:
            pairs.append((own_row, index))
        for bucket in ngram_buckets(form, header.min_n, header.max_n, header.buckets):
            pairs.append((header.num_words + bucket, index))
    pairs.sort()
    rows = np.array([row for row, _ in pairs], np.int64)
    owners = np.array([owner for _, owner in pairs], np.int64)

    sums = np.zeros((len(words), dimension), np.float64)
    num_rows = header.num_words + header.buckets
    blocks = (
        _sought_rows(source.plain, reader, start, num_rows, dimension, rows)
        if source.plain is not None
        else _streamed_rows(reader, num_rows, dimension, rows)
    )
    taken = 0
    for block, done in blocks:
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            row = int(rows[taken + int(np.argmin(finite))])
            offset = start + row * dimension * 4
            fail(source.name, f"matrix row {row} (byte {offset}) is not finite; {AGAIN}")
        # Both ways of reading add in the order of the file, so they give the same bits.
        for owner, vector in zip(owners[taken : taken + len(block)], block, strict=True):
            sums[owner] += vector
        taken += len(block)
        report(0.1 + 0.9 * done)
    report(1.0)

    parts = np.bincount(owners, minlength=len(words))
    sums /= np.maximum(parts, 1)[:, None]
    has_vector = parts > 0
    return sums.astype(np.float32), has_vector, has_vector & (np.array(own_rows, np.int64) < 0)


def ngram_buckets(word: str, min_n: int, max_n: int, buckets: int) -> list[int]:
    """Return the hash bucket of each character n-gram of ``<word>``.

    As ``Dictionary::computeSubwords``: n-grams of ``min_n`` to ``max_n`` code points, without the
    bare ``<`` and ``>``, none for ``</s>``; FNV-1a over their UTF-8 bytes taken as *signed* chars,
    a bug of the first release that every model since depends on.
    """
    if buckets == 0 or word == END_OF_SENTENCE:
        return []
    text = f"<{word}>"
    result = []
    for start in range(len(text)):
        for length in range(max(min_n, 1), min(max_n, len(text) - start) + 1):
            if length == 1 and start in (0, len(text) - 1):
                continue
            value = 2166136261
            for byte in text[start : start + length].encode("utf-8", "surrogatepass"):
                signed = byte if byte < 128 else byte | 0xFFFFFF00
                value = ((value ^ signed) * 16777619) & 0xFFFFFFFF
            result.append(value % buckets)
    return result


class _Reader:
    """A forward reader that knows its byte offset and refuses an early end."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.stream = stream
        self.name = name
        self.offset = 0
        self._buffer = b""
        self._position = 0

    def truncated(self, what: str) -> NoReturn:
        fail(self.name, f"truncated: it ends at byte {self.offset}, in {what}; {AGAIN}")

    def fill(self) -> bool:
        """Read another piece of the stream into the buffer; false at its end."""
        piece = self.stream.read(CHUNK)
        self._buffer = self._buffer[self._position :] + piece
        self._position = 0
        return bool(piece)

    def exactly(self, count: int, what: str) -> bytes:
        """Return the next ``count`` bytes."""
        while len(self._buffer) - self._position < count:
            if not self.fill():
                self.offset += len(self._buffer)
                self.truncated(what)
        data = self._buffer[self._position : self._position + count]
        self._position += count
        self.offset += count
        return data

    def numbers(self, layout: str, what: str) -> tuple[int, ...]:
        """Return little-endian numbers in ``struct``'s notation."""
        return struct.unpack(f"<{layout}", self.exactly(struct.calcsize(f"<{layout}"), what))

    def entry(self, what: str) -> tuple[bytes, int]:
        """Return the word and the type of a dictionary entry."""
        end = self._buffer.find(b"\0", self._position)
        while end < 0 or end + 10 > len(self._buffer):
            if end < 0 and len(self._buffer) - self._position > LONGEST_WORD:
                fail(self.name, f"no end of the word at byte {self.offset}, in {what}; {AGAIN}")
            if not self.fill():
                self.offset += len(self._buffer)
                self.truncated(what)
            end = self._buffer.find(b"\0", self._position)
        word = self._buffer[self._position : end]
        kind = self._buffer[end + 9]
        self.offset += end + 10 - self._position
        self._position = end + 10
        return word, kind

    def at_end(self) -> bool:
        """Return whether nothing is left; this also makes an archive check its checksum."""
        return self._position == len(self._buffer) and not self.fill()


def _bin_header(reader: _Reader, dimension: int) -> _Header:
    magic, version = reader.numbers("2i", "the header")
    if magic != MAGIC:
        fail(reader.name, f"not a fastText .bin of today (byte 0 is {magic}, not {MAGIC})")
    if version not in VERSIONS:
        fail(reader.name, f"fastText format version {version} at byte 4; known: 11 and 12")
    args = reader.numbers("12id", "the header")
    dim, model, buckets, min_n, max_n = args[0], args[7], *args[8:11]
    check_dimension(f"{reader.name}, byte 8", dim, dimension)
    size, num_words, num_labels, _, pruned = reader.numbers("3i2q", "the dictionary's header")
    if model == SUPERVISED or num_labels > 0:
        fail(reader.name, "a supervised model (a classifier); take a skipgram or cbow model")
    if pruned >= 0:
        fail(reader.name, "a pruned model (of `fasttext quantize`); take the model before it")
    if size != num_words or min(size, buckets, min_n, max_n) < 0:
        fail(reader.name, f"contradictory header before byte {reader.offset}; {AGAIN}")
    return _Header(dim, buckets, min_n, max_n, num_words)


def _bin_dictionary(
    reader: _Reader, header: _Header, words: Sequence[str], progress: Progress
) -> tuple[list[str], list[int]]:
    """Return for each word the form whose n-grams count, and its matrix row or -1."""
    forms, rows = list(words), [-1] * len(words)
    lookup = Lookup(words)
    for row in range(header.num_words):
        form, kind = reader.entry(f"dictionary entry {row}")
        if kind != 0:
            fail(reader.name, f"dictionary entry {row} has type {kind}, not word (0); {AGAIN}")
        index = lookup.claim(form)
        if index is not None:
            forms[index], rows[index] = form.decode("utf-8", "replace"), row
        if row % 65536 == 0:
            progress(row / header.num_words)
    return forms, rows


def _bin_matrix_start(reader: _Reader, header: _Header) -> int:
    """Check the shape of the input matrix and return the byte where it starts."""
    (quantized,) = reader.numbers("?", "the input matrix's header")
    if quantized:
        fail(reader.name, "a quantized model; take the .bin before `fasttext quantize`")
    rows, columns = reader.numbers("2q", "the input matrix's header")
    expected = (header.num_words + header.buckets, header.dimension)
    if (rows, columns) != expected:
        fail(
            reader.name,
            f"the matrix before byte {reader.offset} is {rows} x {columns}, but its header says "
            f"{expected[0]} x {expected[1]} ({header.num_words} words + {header.buckets} buckets)",
        )
    return reader.offset


Blocks = Iterator[tuple[NDArray[np.float32], float]]
"""Pieces of the needed rows (count, dimension), in order, and the fraction done."""


def _sought_rows(
    path: Path, reader: _Reader, start: int, num_rows: int, dimension: int, rows: NDArray[np.int64]
) -> Blocks:
    """Yield ``rows`` (sorted, repeats allowed) of the matrix in a plain file."""
    size = path.stat().st_size
    row_bytes = dimension * 4
    end = start + num_rows * row_bytes
    reader.offset = size
    if size < end:
        reader.truncated(f"matrix row {(size - start) // row_bytes} of {num_rows}")
    reader.stream.seek(end)
    tail = _Reader(reader.stream, reader.name)
    tail.offset = end
    end = _output_end(tail, dimension)
    if size < end:
        reader.truncated("the output matrix")
    if size > end:
        _overlong(reader.name, end)
    step = max(1, CHUNK // row_bytes)
    # Not mapped: a page fault reads 16 pages, so scattered rows would read nearly all of them.
    with path.open("rb", buffering=0) as file:
        for first in range(0, rows.size, step):
            wanted = rows[first : first + step]
            block = np.empty((wanted.size, dimension), "<f4")
            for row, target in zip(wanted.tolist(), block, strict=True):
                file.seek(start + row * row_bytes)
                if file.readinto(target.data) != row_bytes:
                    reader.truncated(f"matrix row {row} of {num_rows}")
            yield block, min(1.0, (first + step) / rows.size)


def _streamed_rows(
    reader: _Reader, num_rows: int, dimension: int, rows: NDArray[np.int64]
) -> Blocks:
    """Yield ``rows`` (sorted, repeats allowed) of the matrix that follows in the stream."""
    step = max(1, CHUNK // (dimension * 4))
    for first in range(0, num_rows, step):
        last = min(first + step, num_rows)
        data = reader.exactly((last - first) * dimension * 4, f"matrix rows {first} to {last - 1}")
        low, high = np.searchsorted(rows, (first, last))
        block = np.frombuffer(data, "<f4").reshape(last - first, dimension)
        yield block[rows[low:high] - first], last / num_rows
    end = _output_end(reader, dimension)
    while reader.offset < end:
        reader.exactly(min(CHUNK, end - reader.offset), "the output matrix")
    if not reader.at_end():
        _overlong(reader.name, end)


def _overlong(name: str, end: int) -> NoReturn:
    fail(name, f"goes on behind byte {end}, where its headers say that it ends; {AGAIN}")


def _output_end(reader: _Reader, dimension: int) -> int:
    """Return the byte at which the file ends by the output matrix's header."""
    _, rows, columns = reader.numbers("?2q", "the output matrix's header")
    if rows < 0 or columns != dimension:
        fail(reader.name, f"output matrix of {rows} x {columns} before byte {reader.offset}")
    return reader.offset + rows * columns * 4
