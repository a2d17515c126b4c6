"""A process that encodes texts into token files, or counts words: ``token_workers`` starts it.

It is sent the texts, or is told which part of a corpus' files it reads itself.

It reads frames from its standard input, a letter and a length before each, and writes lines of JSON
to its standard output. Whoever started it may die: then its input ends, in the middle of a file,
and the half file is deleted.
"""

from __future__ import annotations

import json
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinylm.config import DataConfig, from_dict
from tinylm.data.corpora import DivisibleCorpus, open_corpus
from tinylm.data.token_files import write_some
from tinylm.data.token_headers import TokenFileHeader
from tinylm.errors import DataError, TinylmError
from tinylm.registry import TOKENIZERS
from tinylm.tokenizers.base import Counts
from tinylm.tokenizers.files import load

FRAME = struct.Struct("<cQ")
"""What a frame is of, and its bytes."""
BEGIN, TEXTS, END = b"B", b"T", b"E"
"""A file with its path; texts of it; its end."""
SETTINGS, READ, COUNT = b"S", b"R", b"C"
"""What comes next is of; a file, and which part of the corpus stands in it; a part of which the
words are counted."""


def pack_texts(texts: list[str]) -> bytes:
    """Return texts as the content of a frame."""
    lengths = np.array([len(texts), *map(len, texts)], dtype=np.int64)
    return lengths.tobytes() + "".join(texts).encode("utf-8")


def unpack_texts(content: bytes) -> list[str]:
    """Return the texts of a frame."""
    number = int(np.frombuffer(content, np.int64, 1)[0])
    lengths = np.frombuffer(content, np.int64, number, offset=8)
    whole = content[8 + lengths.nbytes :].decode("utf-8")
    return [whole[a:b] for a, b in pairwise([0, *np.cumsum(lengths).tolist()])]


class _EndedError(Exception):
    """The input ended in the middle of a file."""


class UnreadableError(DataError):
    """A part of a corpus cannot be read."""


def _frame(stream: BinaryIO) -> tuple[bytes, bytes] | None:
    head = stream.read(FRAME.size)
    if len(head) < FRAME.size:
        return None
    kind, size = FRAME.unpack(head)
    content = stream.read(size)
    return (kind, content) if len(content) == size else None


def _stories(stream: BinaryIO, each: int) -> Iterator[tuple[str, ...]]:
    while (frame := _frame(stream)) is not None:
        kind, content = frame
        if kind == END:
            return
        texts = unpack_texts(content)
        yield from zip(*(texts[i::each] for i in range(each)), strict=True)
    raise _EndedError


def read_part(
    corpus: DivisibleCorpus, split: str, first: int, last: int
) -> Iterator[tuple[str, ...]]:
    """Yield the texts of a part.

    Raises:
        UnreadableError: if it cannot be read; places are counted from its beginning.
    """
    try:
        yield from corpus.part(split, first, last)
    except TinylmError as error:
        raise UnreadableError(str(error)) from error


class _Doing:
    """What this process works with: a corpus that it reads, a tokenizer, or counts for one."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.corpus = None
        if settings.get("data") is not None:
            self.corpus = open_corpus(from_dict(DataConfig, settings["data"], "data"))
        self.tokenizer = load(settings["tokenizer"]) if "tokenizer" in settings else None

    def part(self, asked: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield the texts of a part of the corpus."""
        assert isinstance(self.corpus, DivisibleCorpus)
        return read_part(self.corpus, self.settings["split"], asked["first"], asked["last"])

    def count(self, asked: dict[str, Any]) -> Any:
        """Return the counts of a part, packed."""
        learned = self.settings["learned"]
        kind = TOKENIZERS.load(learned["kind"])
        counts: Counts = kind.counts(from_dict(kind.Settings, learned, "tokenizer"))
        counts.add(chain.from_iterable(self.part(asked)))
        return counts.packed()

    def write(
        self, path: Path, stories: Iterator[tuple[str, ...]], progress: Callable[[int], None]
    ) -> TokenFileHeader | None:
        """Write stories into a token file, if there are any."""
        assert self.tokenizer is not None
        settings = self.settings
        made_of = (self.tokenizer, settings["corpus"], settings["split"])
        return write_some(path, stories, settings["each"], *made_of, progress)


def work(stream: BinaryIO, answers: BinaryIO) -> None:
    """Encode what is sent until there is no more."""

    def answer(**values: object) -> None:
        answers.write(json.dumps(values).encode() + b"\n")
        answers.flush()

    doing = _Doing({})
    try:
        while (frame := _frame(stream)) is not None:
            kind, content = frame
            if kind == SETTINGS:
                doing = _Doing(json.loads(content))
                continue
            if kind == COUNT:
                answer(counts=doing.count(json.loads(content)))
                continue
            if kind == READ:
                asked = json.loads(content)
                path, stories = asked["path"], doing.part(asked)
            else:
                path, stories = content.decode("utf-8"), _stories(stream, doing.settings["each"])
            header = doing.write(Path(path), stories, lambda number: answer(stories=number))
            answer(header=None if header is None else asdict(header))
    except _EndedError:
        return
    except UnreadableError as error:
        answer(error=str(error), unreadable=True)
    except TinylmError as error:
        answer(error=str(error))
    except OSError as error:
        answer(error=f"{error.filename}: {error.strerror or error}")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it stops it
    work(sys.stdin.buffer, sys.stdout.buffer)
