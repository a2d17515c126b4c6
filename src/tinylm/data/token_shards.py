"""A split written as token files of 64 million characters each, by one process or by several.

A split that fits into one file is that file. Of a longer one the files, its shards, have the name
with a number, ``train-….00000.tokens``, and the name itself is an index of them
(``data.token_headers``). A shard ends after the story with which it has 2^26 characters, so where
one ends hangs on the text alone: any number of processes write the same files, byte for byte, and
10^10 tokens of English are some 650 of them.

One process reads the corpus, whatever form it has, and deals whole shards out to the others, which
encode, write and hash them (``data.token_workers``). A shard appears when it is whole. What was
interrupted goes on behind the last of the shards that stand one after the other and are whole; the
stories in them are read again and not encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from tinylm import folders
from tinylm.atomic import write_bytes
from tinylm.data.token_files import TokenFile, write_texts
from tinylm.data.token_headers import TokenFileHeader, index_bytes, together
from tinylm.data.token_workers import Pool, write_shards
from tinylm.errors import DataError
from tinylm.tokenizers.base import Tokenizer

SHARD_CHARACTERS = 1 << 26

Story = tuple[str, ...]
"""One text, or a source and its target."""


@dataclass(frozen=True)
class Split:
    """What is encoded, and into which files."""

    path: Path
    """Of the file, or of the index."""
    each: int
    """Texts of a story: 1, or 2 of pairs."""
    tokenizer: Tokenizer
    corpus: str
    """Fingerprint."""
    name: str
    """train or validation."""

    def shard(self, number: int) -> Path:
        """Return the path of a shard, by its number from 0."""
        return self.path.with_name(f"{self.path.stem}.{number:05}{self.path.suffix}")

    def settings(self) -> dict[str, Any]:
        """Return what a process needs that encodes shards, as JSON values."""
        return {"split": self.name, "corpus": self.corpus, "each": self.each}

    def write(
        self, path: Path, stories: Iterable[Story], progress: Callable[[int], None] | None = None
    ) -> TokenFileHeader:
        """Encode stories into one token file; see ``token_files.write_texts``."""
        made_of = (self.tokenizer, self.corpus, self.name)
        return write_texts(path, stories, self.each, *made_of, progress)


class Cuts:
    """Stories, cut into shards where they have enough characters."""

    def __init__(self, stories: Iterable[Story]) -> None:
        self._stories = iter(stories)
        self._next = next(self._stories, None)

    def ended(self) -> bool:
        """Whether there is no story any more."""
        return self._next is None

    def skip(self, stories: int) -> int:
        """Leave out stories, and return how many there were."""
        for number in range(stories):
            if self._next is None:
                return number
            self._next = next(self._stories, None)
        return stories

    def shard(self) -> Iterator[Story]:
        """Yield the stories of the next shard."""
        characters = 0
        while self._next is not None and characters < SHARD_CHARACTERS:
            story = self._next
            yield story
            characters += sum(map(len, story))
            self._next = next(self._stories, None)


def write_split(
    split: Split,
    stories: Iterable[Story],
    pool: Pool | None = None,
    progress: Callable[[int], None] | None = None,
) -> TokenFileHeader:
    """Encode stories into token files, going on from those that are there already.

    Args:
        split: what they are, and where the files go. Only one process may write there.
        stories: all of the split, in order; read once.
        pool: of processes that encode; None: this one does. A split of one shard is encoded by this
            one.
        progress: called with the number of stories encoded so far.

    Returns:
        The header of the file, or of its shards together.

    Raises:
        DataError: if there is no story, or a worker ended before its work did.
    """
    headers = _whole_shards(split)
    cuts = Cuts(stories)
    done = 0
    for number, header in enumerate(headers):
        if cuts.skip(header.num_stories) < header.num_stories:  # not of this text after all
            raise DataError(
                f"{split.shard(number)} holds more stories than the corpus has: delete it"
            )
        done += header.num_stories

    def tell(stories: int) -> None:
        if progress is not None:
            progress(done + stories)

    if pool is not None and pool.workers > 1 and not cuts.ended():
        first = list(cuts.shard())
        if cuts.ended():
            headers.append(split.write(split.shard(len(headers)), first, tell))
        else:
            shards = chain([iter(first)], _rest(cuts))
            headers += write_shards(split, shards, len(headers), pool, tell)
    else:
        while not (cuts.ended() and headers):
            header = split.write(split.shard(len(headers)), cuts.shard(), tell)
            headers.append(header)
            done += header.num_stories
    return finish_split(split, [split.shard(n) for n in range(len(headers))], headers)


def _rest(cuts: Cuts) -> Iterator[Iterator[Story]]:
    while not cuts.ended():
        yield cuts.shard()


def finish_split(
    split: Split, shards: Sequence[Path], headers: Sequence[TokenFileHeader]
) -> TokenFileHeader:
    """Give the one file its name, or name the shards in an index."""
    if len(shards) == 1:
        if shards[0] != split.path:
            shards[0].replace(split.path)
            folders.sync(split.path.parent)
    else:
        write_bytes(split.path, index_bytes([path.name for path in shards], headers))
    return together(headers)


def kept_shard(split: Split, path: Path) -> TokenFileHeader | None:
    """Return the header of a shard that is there, whole and of the split, or None."""
    if path.exists():
        with suppress(DataError):
            file = TokenFile(path, split.tokenizer, split.corpus)
            if file.header.split == split.name and file.header.pairs == (split.each == 2):
                return file.header
    return None


def _whole_shards(split: Split) -> list[TokenFileHeader]:
    """Return the headers of the shards that stand one after the other and are whole.

    Those behind them are deleted: another process' shard may be whole while one before it is not.
    """
    headers: list[TokenFileHeader] = []
    for number in count():
        header = kept_shard(split, split.shard(number))
        if header is None:
            break
        headers.append(header)
    pattern = f"{split.path.stem}.{'[0-9]' * 5}{split.path.suffix}"
    kept = {split.shard(number) for number in range(len(headers))}
    for path in split.path.parent.glob(pattern):
        if path.is_file() and path not in kept:
            path.unlink()
    return headers
