"""A process that encodes the texts that it is sent into token files: ``token_workers`` starts it.

It reads frames from its standard input, a letter and a length before each, and writes lines of JSON
to its standard output. Whoever started it may die: then its input ends, in the middle of a file,
and the half file is deleted.
"""

from __future__ import annotations

import json
import signal
import struct
import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tinylm.data.token_files import write_texts
from tinylm.errors import TinylmError
from tinylm.tokenizers.files import load

FRAME = struct.Struct("<cQ")
"""What a frame is of, and its bytes."""
BEGIN, TEXTS, END = b"B", b"T", b"E"
"""A file with its path; texts of it; its end."""


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


def work(stream: BinaryIO, answers: BinaryIO) -> None:
    """Encode what is sent until there is no more."""

    def answer(**values: object) -> None:
        answers.write(json.dumps(values).encode() + b"\n")
        answers.flush()

    settings = json.loads(stream.readline())
    try:
        tokenizer = load(settings["tokenizer"])
        while (frame := _frame(stream)) is not None:
            path = Path(frame[1].decode("utf-8"))
            stories = _stories(stream, settings["each"])
            header = write_texts(
                path,
                stories,
                settings["each"],
                tokenizer,
                settings["corpus"],
                settings["split"],
                lambda number: answer(stories=number),
            )
            answer(header=asdict(header))
    except _EndedError:
        return
    except TinylmError as error:
        answer(error=str(error))
    except OSError as error:
        answer(error=f"{error.filename}: {error.strerror or error}")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it stops it
    work(sys.stdin.buffer, sys.stdout.buffer)
