"""Token files: the ids of a whole split in one memory-mapped file, bound to what made them.

Layout: a header of 4,096 bytes (magic, then signed JSON padded with spaces), the ids as uint16
(uint32 for vocabularies above 65,536), then one int64 a story, the index of its ``<sos>``. Each
story stands as ``<sos>`` ids ``<eos>``. Of pairs, a story is the row that a model reads, ``<sos>``
source target ``<eos>``, each text encoded alone; two more int64 a row then say how many of its
first ids are given, ``<sos>`` and source, and the bytes of its target. The file is written in a
stream and mapped to be read, so neither needs memory for the corpus: 8 bytes a story are held while
writing, 24 a pair.

The header carries the SHA-256 of all that follows it. It is computed again whenever a file is
opened, at 1 to 2 GB a second: half a second for the 470 million tokens of the whole TinyStories.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from tinylm.atomic import atomic_write
from tinylm.errors import DataError
from tinylm.reading import parse_json, problem, refusal, signed, verified
from tinylm.tokenizers.base import EOS_ID, SOS_ID, UNK_ID, Tokenizer

_MAGIC = b"tinylm tokens 2\n"
_HEADER_BYTES = 4096
_STORIES_AT_ONCE = 1024
_AGAIN = "encode the text again"

Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class TokenFileHeader:
    """What a token file holds and what made it."""

    tokenizer: str
    """Fingerprint of the tokenizer."""
    corpus: str
    """Fingerprint of the corpus."""
    split: str
    """train or validation."""
    dtype: Literal["uint16", "uint32"]
    """NumPy name of the ids' type."""
    num_tokens: Count
    """Ids in the file, ``<sos>`` and ``<eos>`` of every story included."""
    num_stories: Annotated[int, Field(ge=1)]
    """Stories in the file."""
    num_unknown: Count
    """``<unk>`` ids in the file."""
    num_text_bytes: Count
    """UTF-8 bytes of the stories' text, for bits per byte."""
    sha256: str
    """Of all that follows the header."""
    pairs: bool = False
    """Whether the stories are pairs, a source with its target each."""

    @property
    def noun(self) -> str:
        """What a story is called, such as ``pair``."""
        return "pair" if self.pairs else "story"

    @property
    def nouns(self) -> str:
        """What several are called."""
        return "pairs" if self.pairs else "stories"

    @property
    def unknown_rate(self) -> float:
        """``<unk>`` as a share of the text's tokens, framing tokens left out."""
        return self.num_unknown / max(1, self.num_tokens - 2 * self.num_stories)


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
    return _write(path, texts, 1, tokenizer, corpus, split, progress)


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
    return _write(path, pairs, 2, tokenizer, corpus, split, progress)


def _write(
    path: str | Path,
    stories: Iterable[tuple[str, ...]],
    each: int,
    tokenizer: Tokenizer,
    corpus: str,
    split: str,
    progress: Callable[[int], None] | None,
) -> TokenFileHeader:
    """Write stories of ``each`` texts, 1 or 2."""
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)
    starts, pairs = array("q"), array("q")
    num_tokens = num_unknown = num_text_bytes = 0
    remaining = iter(stories)
    digest = hashlib.sha256()
    with atomic_write(path) as file:

        def write(content: bytes) -> None:
            file.write(content)
            digest.update(content)

        file.write(bytes(_HEADER_BYTES))
        while texts := list(chain.from_iterable(islice(remaining, _STORIES_AT_ONCE))):
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
        text = _MAGIC + json.dumps(signed(asdict(header))).encode()
        file.seek(0)
        file.write(text.ljust(_HEADER_BYTES))
    return header


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
    """A token file opened for reading; ``ids``, ``starts`` and ``pairs`` are memory maps."""

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
                another tokenizer or from another corpus; it names both.
        """
        self.path = Path(path)
        self.header = read_header(self.path)
        for what, wanted, given in (
            ("tokenizer", tokenizer and tokenizer.fingerprint(), self.header.tokenizer),
            ("corpus", corpus, self.header.corpus),
        ):
            if wanted is not None and wanted != given:
                raise DataError(
                    f"{self.path} is stale: it was made with {what} {given}, this run uses "
                    f"{wanted}; {_AGAIN}"
                )
        dtype = np.dtype(self.header.dtype)
        end = _HEADER_BYTES + self.header.num_tokens * dtype.itemsize
        starts_at = end + -end % 8
        pairs_at = starts_at + 8 * self.header.num_stories
        expected = pairs_at + 16 * self.header.num_stories * self.header.pairs
        if self.path.stat().st_size != expected:
            raise DataError(
                f"{self.path} has {self.path.stat().st_size} bytes and its header says "
                f"{expected}: it was cut short or changed; {_AGAIN}"
            )
        self.ids: npt.NDArray[np.unsignedinteger] = np.memmap(
            self.path, dtype, "r", _HEADER_BYTES, (self.header.num_tokens,)
        )
        self.starts: npt.NDArray[np.int64] = np.memmap(
            self.path, np.int64, "r", starts_at, (self.header.num_stories,)
        )
        self.pairs: npt.NDArray[np.int64] | None = None
        """Of pairs: the ids that are given, and the bytes of the target, (stories, 2)."""
        if self.header.pairs:
            shape = (self.header.num_stories, 2)
            self.pairs = np.memmap(self.path, np.int64, "r", pairs_at, shape)
        self._check(None if tokenizer is None else tokenizer.vocab_size)

    def _check(self, vocab_size: int | None) -> None:
        """Refuse content that is not what was written, or that no writer writes."""
        content = np.memmap(self.path, np.uint8, "r", _HEADER_BYTES)
        problem = None
        if hashlib.sha256(content.data).hexdigest() != self.header.sha256:
            problem = "it has changed since it was written"
        else:
            ends = np.append(self.starts[1:], self.header.num_tokens)
            if self.starts[0] != 0 or (ends - self.starts < 2).any():
                problem = "its stories do not follow each other"
            elif (self.ids[self.starts] != SOS_ID).any() or (self.ids[ends - 1] != EOS_ID).any():
                problem = "a story does not stand between <sos> and <eos>"
            elif vocab_size is not None and self.ids.max() >= vocab_size:
                problem = f"it holds the id {self.ids.max()}, the tokenizer has {vocab_size}"
            elif self.pairs is not None and not _fit(self.pairs, ends - self.starts):
                problem = "the sources of its pairs do not fit into their rows"
        if problem is not None:
            raise DataError(f"{self.path} is damaged: {problem}; {_AGAIN}")

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

    def stories(self) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the ids of every story in order."""
        for index in range(len(self)):
            yield self.story(index)


def _fit(pairs: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> bool:
    """Whether of every row ``<sos>`` at least is given, and ``<eos>`` at least is not."""
    given, num_bytes = pairs.T
    return bool((given >= 1).all() and (given < lengths).all() and (num_bytes >= 0).all())


def read_header(path: Path) -> TokenFileHeader:
    """Read the header of a token file.

    Raises:
        DataError: if the file is missing or is no token file of this version.
    """
    try:
        with path.open("rb") as file:
            block = file.read(_HEADER_BYTES)
    except OSError as error:
        raise DataError(f"cannot read token file {path}: {error.strerror}") from error
    if len(block) < _HEADER_BYTES or not block.startswith(_MAGIC):
        raise DataError(f"{path} is no token file of this version; {_AGAIN}")
    refuse = refusal(f"{path} has a damaged header", DataError, _AGAIN)
    values = verified(parse_json(block[len(_MAGIC) :], refuse), refuse)
    try:
        return TokenFileHeader(**values)
    except ValidationError as error:
        raise refuse(problem(error)) from None
