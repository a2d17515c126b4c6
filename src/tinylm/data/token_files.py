"""Token files: the ids of a whole split in one memory-mapped file, bound to what made them.

Layout: a header of 4,096 bytes (magic, then signed JSON padded with spaces), the ids as uint16
(uint32 for vocabularies above 65,536), then one int64 a story, the index of its ``<sos>``. Each
story stands as ``<sos>`` ids ``<eos>``. The file is written in a stream and mapped to be read, so
neither needs memory for the corpus: 8 bytes a story are held while writing.

The header carries the SHA-256 of all that follows it. It is computed again whenever a file is
opened, at 1 to 2 GB a second: half a second for the 470 million tokens of the whole TinyStories.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import islice
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
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)
    starts = array("q")
    num_tokens = num_unknown = num_text_bytes = 0
    remaining = iter(stories)
    digest = hashlib.sha256()
    with atomic_write(path) as file:

        def write(content: bytes) -> None:
            file.write(content)
            digest.update(content)

        file.write(bytes(_HEADER_BYTES))
        while texts := list(islice(remaining, _STORIES_AT_ONCE)):
            framed, bounds = _frame(*tokenizer.encode_flat(texts), dtype)
            write(framed.tobytes())
            starts.extend((bounds[:-1] + num_tokens).tolist())
            num_tokens += len(framed)
            num_unknown += int((framed == UNK_ID).sum())
            num_text_bytes += sum(len(text.encode("utf-8")) for text in texts)
            if progress is not None:
                progress(len(starts))
        if not starts:
            raise DataError(f"the {split} split of corpus {corpus} has no story")
        write(bytes(-file.tell() % 8))
        write(starts.tobytes())
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
    """A token file opened for reading; ``ids`` and ``starts`` are memory maps."""

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
        expected = starts_at + 8 * self.header.num_stories
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
        if problem is not None:
            raise DataError(f"{self.path} is damaged: {problem}; {_AGAIN}")

    def __len__(self) -> int:
        """Return the number of stories."""
        return self.header.num_stories

    def story(self, index: int) -> npt.NDArray[np.int64]:
        """Return the ids of a story, ``<sos>`` and ``<eos>`` included, (tokens,)."""
        end = self.starts[index + 1] if index + 1 < len(self) else self.header.num_tokens
        return np.asarray(self.ids[self.starts[index] : end], dtype=np.int64)

    def stories(self) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the ids of every story in order."""
        for index in range(len(self)):
            yield self.story(index)


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
