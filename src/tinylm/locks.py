"""One writer at a time in a folder: a run, an adapter, a cache, a folder of pages.

Who writes holds ``FOLDER/.lock`` by ``flock`` (the library filelock), so that a process that has
died holds no lock. The file says who holds it: process, command, host and since when. It is deleted
when the writer is done; an empty folder that was made for it goes as well.

The holder alone writes there. So what killed processes left unfinished (names ``.*.tmp``) is
deleted when a lock is taken, and a folder that is removed or exchanged while it is written to is
noticed before the next file.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout
from typing_extensions import TypedDict

from tinylm import folders
from tinylm.errors import TinylmError
from tinylm.reading import read_json

LOCK = ".lock"
_SECONDS_BETWEEN_TRIES = 0.1
_MOST_TRIES = 100
_TRIES_TO_READ = 3
_LONGEST_COMMAND = 120

Tell = Callable[[str], None]


class LockedError(TinylmError):
    """Another process is writing there."""

    def __init__(self, problem: str, advice: str) -> None:
        """Say who is writing, and what can be done."""
        self.problem = problem
        super().__init__(f"{problem}: {advice}")


class LostFolderError(TinylmError):
    """A folder is not the one any more that this process began to write to."""


class _Holder(TypedDict):
    """What a lock file says."""

    pid: int
    host: str
    command: str
    since: str


@dataclass
class _Held:
    """A lock of this process."""

    pid: int
    folder: tuple[int, int] | None
    """Device and inode."""
    file: tuple[int, int] | None
    """Of the lock."""


_held: dict[Path, _Held] = {}


@contextmanager
def locked(
    folder: str | Path, tell: Tell, wait: bool = False, clear: Sequence[str] = ("",)
) -> Iterator[None]:
    """Be the only process that writes to a folder; within one process the lock nests.

    Where the file system has no locks, a warning says so and the work goes on without one.

    Args:
        folder: made if it is not there.
        tell: called with the line that says whom it waits for, or that there are no locks.
        wait: for a process that holds it; otherwise that is an error.
        clear: subfolders in which what killed processes left is deleted; "" is the folder itself.

    Raises:
        LockedError: if another process holds it: who, since when, and what can be done.
        OSError: if the folder cannot be made or written to.
    """
    folder = Path(folder)
    key = folder.resolve()
    held = _held.get(key)
    if held is not None and held.pid == os.getpid():
        yield
        return
    made: list[Path] = []
    lock = _acquire(folder, tell, wait, made)
    _held[key] = held = _Held(os.getpid(), _identity(key), _identity(key / LOCK))
    try:
        if lock is not None:
            _write_holder(key / LOCK)
            for name in clear:
                folders.clear_leftovers(key / name)
        yield
    finally:
        del _held[key]
        if lock is not None:
            # While it is still held: a waiting process then sees that the file is gone, and makes a
            # new one.
            if held.file is not None and _identity(key / LOCK) == held.file:
                (key / LOCK).unlink()
            lock.release()
        _remove_empty(made)


def refuse_lost(path: Path) -> None:
    """Refuse to write below a locked folder that has been removed, renamed or exchanged.

    Raises:
        LostFolderError: naming the folder.
    """
    whole = path.parent.resolve() / path.name
    for folder, held in _held.items():
        is_below = held.pid == os.getpid() and whole.is_relative_to(folder)
        if is_below and _identity(folder) != held.folder:
            raise LostFolderError(
                f"{folder} was removed, renamed or exchanged while it was written to: stopped "
                f"before {path.name}; what was written before is wherever the folder is now"
            )


def _acquire(folder: Path, tell: Tell, wait: bool, made: list[Path]) -> FileLock | None:
    """Return the lock, held, or None where the file system has none.

    Folders that have to be made for it are put into ``made``, the innermost first.
    """
    path = folder / LOCK
    lock = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
    announced, vanished, unread = False, 0, 0
    while True:
        try:
            made[:0] = folders.make(folder)
            lock.acquire()
        except Timeout:
            holder = _read_holder(path)
            if holder is None:
                if not path.exists():
                    continue  # released since
                unread += 1
                if unread < _TRIES_TO_READ:  # its holder is about to write its name
                    time.sleep(_SECONDS_BETWEEN_TRIES)
                    continue
                who = "another process"
            else:
                who = _describe(holder)
            if not wait:
                advice = "wait until it ends"
                if holder is not None and holder["host"] == platform.node():
                    advice += f", or stop it: kill {holder['pid']}"
                raise LockedError(f"{folder} is being written to by {who}", advice) from None
            if not announced:
                tell(f"{folder} is being written to by {who}: waiting until it ends")
                announced = True
            time.sleep(_SECONDS_BETWEEN_TRIES)
        except FileNotFoundError:  # an empty one that another process had made for its lock
            vanished += 1
            if vanished > _MOST_TRIES:
                raise
        except OSError as error:
            if path.exists() and os.access(path, os.W_OK):
                tell(
                    f"the file system of {folder} has no locks ({error.strerror}): see to it that "
                    "no other process writes there"
                )
                return None
            raise
        else:
            return lock


def _remove_empty(made: Sequence[Path]) -> None:
    for path in made:
        try:
            path.rmdir()
        except OSError:  # something was written into it
            return


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode, or None if there is nothing of that name."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _write_holder(path: Path) -> None:
    started = sys.orig_argv[1:]  # without the interpreter
    command = shlex.join([Path(word).name if i == 0 else word for i, word in enumerate(started)])
    holder: _Holder = {
        "pid": os.getpid(),
        "host": platform.node(),
        "command": command,
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    path.write_text(json.dumps(holder) + "\n", "utf-8")


def _read_holder(path: Path) -> _Holder | None:
    """Return what a lock file says, or None where that is not valid.

    It may be gone, half written or damaged, or still name a dead process that had it before.
    """
    try:
        holder = read_json(path, _Holder)
    except TinylmError:
        return None
    return None if holder["host"] == platform.node() and _is_dead(holder["pid"]) else holder


def _is_dead(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # another user's
        return False
    return False


def _describe(holder: _Holder) -> str:
    command = "".join(c if c.isprintable() else "?" for c in holder["command"])
    if len(command) > _LONGEST_COMMAND:
        command = f"{command[:_LONGEST_COMMAND]}…"
    host = "" if holder["host"] == platform.node() else f" on {holder['host']!a}"
    since = "".join(c for c in holder["since"].replace("T", " ") if c in "0123456789-:+ ")
    return f"process {holder['pid']}{host} ({command}, since {since})"
