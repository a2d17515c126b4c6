"""Token files: the ids of a whole split in one memory-mapped file, bound to what made them.

Layout: a header of 4,096 bytes (magic, then signed JSON padded with spaces), the ids as uint16
(uint32 for vocabularies above 65,536), then one int64 a story, the index of its ``<sos>``. Each
story stands as ``<sos>`` ids ``<eos>``. Of pairs, a story is the row that a model reads, ``<sos>``
source target ``<eos>``, each text encoded alone; two more int64 a row then say how many of its
first ids are given, ``<sos>`` and source, and the bytes of its target. The file is written in a
stream and mapped to be read, so neither needs memory for the corpus: 8 bytes a story are held while
writing, 24 a pair.

The header carries the SHA-256 of all that follows it, which is computed again when a file is opened
(``data.token_checks``). A long split is several such files that an index names
(``data.token_headers``, ``data.token_shards``), and is read as one.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinylm.atomic import atomic_write
from tinylm.data.joined import Joined
from tinylm.data.token_checks import allow_open, check, mapped
from tinylm.data.token_headers import (
    AGAIN,
    HEADER_BYTES,
    TokenFileHeader,
    header_bytes,
    is_index,
    read_header,
    read_index,
    together,
)
from tinylm.errors import DataError
from tinylm.tokenizers.base import EOS_ID, SOS_ID, UNK_ID, Tokenizer

_STORIES_AT_ONCE = 1024
_CHARACTERS_AT_ONCE = 1 << 23
_IDS_COUNTED_AT_ONCE = 1 << 22

__all__ = ["TokenFile", "TokenFileHeader", "read_header", "write_pair_file", "write_token_file"]


def write_token_file(
    path: str | Path,
    stories: Iterable[str],
    tokenizer: Tokenizer,
    corpus: str,
    split: str,
    progress: Callable[[int], None] | None = None,
) -> TokenFileHeader:
    """Encode stories one batch after the other into a token file.

    Args:
        path: the file; it appears only when it is whole.
        stories: the texts of the split, read once.
        tokenizer: gives the ids; its fingerprint is stored.
        corpus: the corpus' fingerprint, stored.
        split: train or validation, stored.
        progress: called with the number of stories written so far.

    Raises:
        DataError: if there is no story.
    """
    texts = ((story,) for story in stories)
    return write_texts(path, texts, 1, tokenizer, corpus, split, progress)


def write_pair_file(
    path: str | Path,
    pairs: Iterable[tuple[str, str]],
    tokenizer: Tokenizer,
    corpus: str,
    split: str,
    progress: Callable[[int], None] | None = None,
) -> TokenFileHeader:
    """Encode sources with their targets into a token file; arguments as of ``write_token_file``.

    Raises:
        DataError: if there is no pair.
    """
    return write_texts(path, pairs, 2, tokenizer, corpus, split, progress)


def write_texts(
    path: str | Path,
    stories: Iterable[tuple[str, ...]],
    each: int,
    tokenizer: Tokenizer,
    corpus: str,
    split: str,
    progress: Callable[[int], None] | None,
) -> TokenFileHeader:
    """Write stories of ``each`` texts, 1 or 2, into one token file.

    Raises:
        DataError: if there is no story.
    """
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)
    starts, pairs = array("q"), array("q")
    num_tokens = num_unknown = num_text_bytes = 0
    digest = hashlib.sha256()
    with atomic_write(path) as file:

        def write(content: bytes) -> None:
            file.write(content)
            digest.update(content)

        file.write(bytes(HEADER_BYTES))
        for piece in pieces(stories):
            texts = list(chain.from_iterable(piece))
            ids, cuts = tokenizer.encode_flat(texts)
            framed, bounds = _frame(ids, cuts[::each], dtype)
            write(framed.tobytes())
            starts.extend((bounds[:-1] + num_tokens).tolist())
            num_tokens += len(framed)
            num_unknown += int((framed == UNK_ID).sum())
            sizes = [len(text.encode("utf-8")) for text in texts]
            num_text_bytes += sum(sizes)
            if each == 2:
                given = 1 + cuts[1::2] - cuts[:-1:2]  # with <sos>
                pairs.extend(np.stack((given, sizes[1::2]), 1).ravel().tolist())
            if progress is not None:
                progress(len(starts))
        if not starts:
            raise DataError(f"the {split} split of corpus {corpus} has no story")
        write(bytes(-file.tell() % 8))
        write(starts.tobytes())
        write(pairs.tobytes())
        header = TokenFileHeader(
            tokenizer=tokenizer.fingerprint(),
            corpus=corpus,
            split=split,
            dtype="uint16" if dtype == np.uint16 else "uint32",
            num_tokens=num_tokens,
            num_stories=len(starts),
            num_unknown=num_unknown,
            num_text_bytes=num_text_bytes,
            sha256=digest.hexdigest(),
            pairs=each == 2,
        )
        file.seek(0)
        file.write(header_bytes(header))
    return header


def write_some(
    path: str | Path,
    stories: Iterator[tuple[str, ...]],
    each: int,
    tokenizer: Tokenizer,
    corpus: str,
    split: str,
    progress: Callable[[int], None] | None,
) -> TokenFileHeader | None:
    """Write stories as ``write_texts`` does, or no file and None if there are none."""
    first = next(stories, None)
    if first is None:
        return None
    made_of = (tokenizer, corpus, split, progress)
    return write_texts(path, chain([first], stories), each, *made_of)


def pieces(stories: Iterable[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    """Yield stories in lists that are encoded at once: bounded by number and by length."""
    piece: list[tuple[str, ...]] = []
    size = 0
    for story in stories:
        piece.append(story)
        size += sum(map(len, story))
        if len(piece) == _STORIES_AT_ONCE or size >= _CHARACTERS_AT_ONCE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _frame(
    ids: npt.NDArray[np.int32], bounds: npt.NDArray[np.int64], dtype: np.dtype[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Put ``<sos>`` before and ``<eos>`` behind each text; return the ids and their bounds."""
    framed_bounds = bounds + 2 * np.arange(len(bounds))
    framed = np.empty(framed_bounds[-1], dtype)
    inside = np.ones(len(framed), dtype=bool)
    inside[framed_bounds[:-1]] = inside[framed_bounds[1:] - 1] = False
    framed[inside] = ids
    framed[framed_bounds[:-1]] = SOS_ID
    framed[framed_bounds[1:] - 1] = EOS_ID
    return framed, framed_bounds


class TokenFile:
    """A split opened for reading, one token file or several that an index names.

    ``ids``, ``starts`` and ``pairs`` are memory maps, of several files seen as one (``Joined``).
    """

    def __init__(
        self, path: str | Path, tokenizer: Tokenizer | None = None, corpus: str | None = None
    ):
        """Open a file, check that it is whole and that it belongs to what is used with it.

        Args:
            path: the token file.
            tokenizer: that the file must have been made with.
            corpus: fingerprint of the corpus that it must hold.

        Raises:
            DataError: if the file is missing, cut short, changed since it was written, or made by
                another tokenizer or from another corpus; it names both. Of an index: if this is so
                of a file that it names, or they are not those that it names.
        """
        self.path = Path(path)
        paths, headers = [self.path], list[TokenFileHeader]()
        if is_index(self.path):
            paths, headers = read_index(self.path)
            allow_open(len(paths))
        self.header = together(headers or [read_header(self.path)])
        for what, wanted, given in (
            ("tokenizer", tokenizer and tokenizer.fingerprint(), self.header.tokenizer),
            ("corpus", corpus, self.header.corpus),
        ):
            if wanted is not None and wanted != given:
                raise DataError(
                    f"{self.path} is stale: it was made with {what} {given}, this run uses "
                    f"{wanted}; {AGAIN}"
                )
        files = [mapped(*each) for each in zip(paths, headers or [self.header], strict=True)]
        firsts = [0, *accumulate(file.header.num_tokens for file in files)][: len(files)]
        self.ids: npt.NDArray[np.unsignedinteger] | Joined = _joined([file.ids for file in files])
        self.starts: npt.NDArray[np.int64] | Joined = _joined([f.starts for f in files], firsts)
        sizes = [file.pairs for file in files if file.pairs is not None]
        self.pairs: npt.NDArray[np.int64] | Joined | None = _joined(sizes) if sizes else None
        """Of pairs: the ids that are given, and the bytes of the target, (stories, 2)."""
        note = self.path.with_name(f"{self.path.name}.verified")
        check(files, None if tokenizer is None else tokenizer.vocab_size, note)

    def __len__(self) -> int:
        """Return the number of stories."""
        return self.header.num_stories

    def story(self, index: int) -> npt.NDArray[np.int64]:
        """Return the ids of a story, ``<sos>`` and ``<eos>`` included, (tokens,)."""
        end = self.starts[index + 1] if index + 1 < len(self) else self.header.num_tokens
        return np.asarray(self.ids[self.starts[index] : end], dtype=np.int64)

    def beginning(self, index: int, length: int) -> list[int]:
        """Return what a text is continued from: its first ids, or of a pair its source.

        Args:
            index: of the story.
            length: ids at most, ``<sos>`` included, where it is no pair.
        """
        story = self.story(index)
        given = length if self.pairs is None else int(self.pairs[index, 0])
        first: list[int] = story[:-1][:given].tolist()
        return first

    def lengths(self) -> npt.NDArray[np.int64]:
        """Return the ids of every story, framing included, (stories,)."""
        return np.diff(self.starts, append=self.header.num_tokens)

    def counts(self, size: int = 0) -> npt.NDArray[np.int64]:
        """Return how often each id occurs, read in pieces: (size,), or up to the largest id."""
        counts = np.zeros(size, dtype=np.int64)
        for first in range(0, self.header.num_tokens, _IDS_COUNTED_AT_ONCE):
            part = self.ids[first : first + _IDS_COUNTED_AT_ONCE]
            more = np.bincount(part, minlength=len(counts))
            more[: len(counts)] += counts
            counts = more
        return counts

    def stories(self) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the ids of every story in order."""
        for index in range(len(self)):
            yield self.story(index)


def _joined(parts: Sequence[npt.NDArray[Any]], added: Sequence[int] | None = None) -> Any:
    """Return arrays of several files as one; of one file it is the mapped array itself."""
    return parts[0] if len(parts) == 1 else Joined(parts, added)
