"""Whether token files still hold what was written: read whole once, and again when they change.

A file is read through, its SHA-256 compared with that in its header, and what no writer writes
refused. Files of a split are read side by side, on as many processors as there are, at 1 to 2 GB a
second on each.

Where the files of a split have 256 MB or more together, what was verified is noted beside them in
``NAME.verified``: of each its size, its times of change, its inode and digest. A file of which all
that is the same is not read through again. What changes a file by way of the operating system
changes one of these times; what a failing disk or memory does to it is found only by deleting the
note. Smaller splits are always read, within 0.3 seconds.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinylm.atomic import write_text
from tinylm.data.token_headers import AGAIN, HEADER_BYTES, TokenFileHeader
from tinylm.errors import ConfigError, DataError, TinylmError
from tinylm.fingerprints import SECONDS_UNTIL_SURE
from tinylm.reading import read_signed, signed
from tinylm.tokenizers.base import EOS_ID, SOS_ID

_NOTED_BYTES = 1 << 28
"""Files of a split together, from which on a note is kept."""
_IDS_AT_ONCE = 1 << 22
_OTHER_FILES = 768

Note = dict[str, list[int | str]]


@dataclass(frozen=True)
class Mapped:
    """A token file, and its content as it is mapped into memory."""

    path: Path
    header: TokenFileHeader
    content: npt.NDArray[np.uint8]
    """All that follows the header."""

    @property
    def ids(self) -> npt.NDArray[np.unsignedinteger]:
        """(tokens,)."""
        size = self.header.num_tokens * np.dtype(self.header.dtype).itemsize
        return self.content[:size].view(self.header.dtype)

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """The index of every story's first id in this file, (stories,)."""
        first = self.header.starts_at - HEADER_BYTES
        return self.content[first : first + 8 * self.header.num_stories].view(np.int64)

    @property
    def pairs(self) -> npt.NDArray[np.int64] | None:
        """Of pairs: ids that are given, and bytes of the target, (stories, 2)."""
        if not self.header.pairs:
            return None
        return self.content[self.header.pairs_at - HEADER_BYTES :].view(np.int64).reshape(-1, 2)


def mapped(path: Path, header: TokenFileHeader) -> Mapped:
    """Map a token file into memory.

    Raises:
        DataError: if it has another size than its header says, or cannot be mapped.
        ConfigError: if this process may not have so many files open.
    """
    expected = HEADER_BYTES + header.content_bytes
    try:
        size = path.stat().st_size
        if size == expected:
            return Mapped(path, header, np.memmap(path, np.uint8, "r", HEADER_BYTES))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):  # to encode again would not help
            raise ConfigError(
                f"{path} cannot be opened beside the other shards ({error.strerror}): allow more "
                "open files, with `ulimit -n 65536`"
            ) from error
        raise DataError(f"cannot read token file {path}: {error.strerror or error}") from error
    raise DataError(
        f"{path} has {size} bytes and its header says {expected}: it was cut short or changed; "
        f"{AGAIN}"
    )


def allow_open(number: int) -> None:
    """Let this process have so many files open beside others, as far as the system lets it.

    A file that is mapped counts as open; 1,024 are allowed where nothing else is set.
    """
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + _OTHER_FILES
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        wanted = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(allowed, wanted), most))


def check(files: Sequence[Mapped], vocab_size: int | None, note: Path) -> None:
    """Refuse content that is not what was written, or that no writer writes.

    Args:
        files: of one split.
        vocab_size: types of the tokenizer that it must have been made with; None: any.
        note: where what was verified is noted.

    Raises:
        DataError: naming the file and the problem.
    """
    known: Mapping[str, Sequence[int | str]] = {}
    noted = sum(file.header.content_bytes for file in files) >= _NOTED_BYTES
    if noted:
        with suppress(TinylmError):
            known = read_signed(note, Note)
    states = {file.path.name: _state(file) for file in files}
    new = [
        file for file in files if list(known.get(file.path.name, ()))[:-1] != states[file.path.name]
    ]
    with ThreadPoolExecutor(max(1, min(len(new), os.cpu_count() or 1))) as pool:
        largest = dict(zip([file.path.name for file in new], pool.map(_verify, new), strict=True))
    for file in files:
        most = largest.get(file.path.name)
        most = int(known[file.path.name][-1]) if most is None else most
        if vocab_size is not None and most >= vocab_size:
            raise DataError(
                f"{file.path} is damaged: it holds the id {most}, the tokenizer has {vocab_size}; "
                f"{AGAIN}"
            )
    if noted and new:
        sure = {
            name: [*states[name], most] for name, most in largest.items() if _is_old(states[name])
        }
        kept = {
            name: value for name, value in known.items() if name in states and name not in largest
        }
        with suppress(OSError, TinylmError):  # a folder that cannot be written to: read again then
            write_text(note, json.dumps(signed({**kept, **sure})) + "\n")


def _state(file: Mapped) -> list[int | str]:
    """Return what says which file it is, and when it was changed last."""
    status = file.path.stat()
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return [status.st_size, *times, status.st_ino, file.header.sha256]


def _is_old(state: Sequence[int | str]) -> bool:
    """Whether times of change are so long ago that a later change would have another."""
    newest = max(int(state[1]), int(state[2])) / 1e9
    return time.time() - newest > SECONDS_UNTIL_SURE


def _verify(file: Mapped) -> int:
    """Read a file through, and return its largest id.

    Raises:
        DataError: if it is damaged.
    """
    problem, largest = None, 0
    if sha256(file.content.data).hexdigest() != file.header.sha256:
        problem = "it has changed since it was written"
    else:
        ids, starts = file.ids, file.starts
        ends = np.append(starts[1:], file.header.num_tokens)
        if starts[0] != 0 or (ends - starts < 2).any():
            problem = "its stories do not follow each other"
        elif (ids[starts] != SOS_ID).any() or (ids[ends - 1] != EOS_ID).any():
            problem = "a story does not stand between <sos> and <eos>"
        elif file.pairs is not None and not _fit(file.pairs, ends - starts):
            problem = "the sources of its pairs do not fit into their rows"
        largest = max(int(part.max()) for part in parts(ids))
    if problem is not None:
        raise DataError(f"{file.path} is damaged: {problem}; {AGAIN}")
    return largest


def parts(ids: npt.NDArray[np.unsignedinteger]) -> Iterator[npt.NDArray[np.unsignedinteger]]:
    """Yield ids in pieces of some MB."""
    for first in range(0, len(ids), _IDS_AT_ONCE):
        yield ids[first : first + _IDS_AT_ONCE]


def _fit(pairs: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> bool:
    """Whether of every row ``<sos>`` at least is given, and ``<eos>`` at least is not."""
    given, num_bytes = pairs.T
    return bool((given >= 1).all() and (given < lengths).all() and (num_bytes >= 0).all())
