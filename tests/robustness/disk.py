"""What a disk holds before each change of a program, if the program or the power ends there.

The program runs once, in a folder, with its changes watched: files opened for writing, written,
synced, cut, renamed and deleted, folders made and deleted, links. Before each change the folder is
taken down in three ways:

- *killed*: as it is. What the program has handed to the system stays when it is killed.
- *power lost, names kept*: every name as it is, and in every file what was last synced. Journals
  that write names before contents leave this.
- *power lost*: in every folder the names, and in every file the contents, that were last synced.

A write is watched twice, with half of the bytes written in between.
"""

from __future__ import annotations

import builtins
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Tree = dict[str, bytes | str | None]
"""Path in the folder -> the content of a file, where a link leads, or None for a folder."""

KILLED, NAMES_KEPT, POWER_LOST = "killed", "power lost, names kept", "power lost"


@dataclass
class Recorder:
    """Takes a folder down before each change to it."""

    root: Path
    changes: list[str] = field(default_factory=list)
    """What was about to be done, for messages."""
    states: dict[str, list[Tree]] = field(
        default_factory=lambda: {KILLED: [], NAMES_KEPT: [], POWER_LOST: []}
    )
    """Kind of end -> the folder before each change, and after the last one."""
    _kept: dict[int, int] = field(default_factory=dict)
    """Inode -> a descriptor that keeps it from being given to another file."""
    _contents: dict[int, bytes] = field(default_factory=dict)
    """Inode of a file -> what was last synced of it."""
    _names: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Inode of a folder -> its names when it was last synced, and what they led to."""

    def start(self) -> None:
        """Count everything that is there as synced."""
        for path in [self.root, *self.root.rglob("*")]:
            self.sync(path)

    def before(self, change: str) -> None:
        """Take the folder down."""
        self.changes.append(change)
        self.states[KILLED].append(now := read_tree(self.root))
        self.states[NAMES_KEPT].append(
            {
                name: self._contents.get(self._inode(self.root / name), b"")
                if isinstance(content, bytes)
                else content
                for name, content in now.items()
            }
        )
        self.states[POWER_LOST].append(self._synced(self._inode(self.root)))

    def sync(self, path: Path) -> None:
        """Remember what is in a file, or the names in a folder."""
        if path.is_symlink():
            return
        inode = self._inode(path)
        if path.is_dir():
            self._names[inode] = {
                entry.name: str(entry.readlink())
                if entry.is_symlink()
                else (self._inode(entry), entry.is_dir())
                for entry in path.iterdir()
            }
        else:
            self._contents[inode] = path.read_bytes()

    def close(self) -> None:
        for descriptor in self._kept.values():
            PLAIN.close(descriptor)

    def _inode(self, path: Path) -> int:
        inode = path.stat().st_ino
        if inode not in self._kept:
            self._kept[inode] = PLAIN.os_open(path, os.O_RDONLY)
        return inode

    def _synced(self, folder: int, prefix: str = "") -> Tree:
        tree: Tree = {}
        for name, entry in self._names.get(folder, {}).items():
            if isinstance(entry, str):
                tree[prefix + name] = entry
            elif entry[1]:
                tree[prefix + name] = None
                tree |= self._synced(entry[0], f"{prefix}{name}/")
            else:
                tree[prefix + name] = self._contents.get(entry[0], b"")
        return tree


def read_tree(folder: Path) -> Tree:
    """Return all that is in a folder."""
    tree: Tree = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            tree[name] = str(path.readlink())
        else:
            tree[name] = None if path.is_dir() else path.read_bytes()
    return tree


def write_tree(folder: Path, tree: Tree) -> None:
    """Make all that a tree holds in a folder that is empty or not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in sorted(tree.items()):
        path = folder / name
        if content is None:
            path.mkdir(parents=True)
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)


class PLAIN:
    """The system's own functions."""

    open = staticmethod(io.open)
    os_open = staticmethod(os.open)
    close = staticmethod(os.close)
    os_write = staticmethod(os.write)
    fsync = staticmethod(os.fsync)


_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@contextmanager
def watched(
    root: Path, before: Callable[[str], None], synced: Callable[[Path], None]
) -> Iterator[None]:
    """Call ``before`` before each change below ``root``, and ``synced`` after each sync of a path.

    Python's own functions are exchanged; libraries that write by others are not seen.
    """
    exchanged: list[tuple[Any, str, Any]] = []

    def exchange(owner: Any, name: str, new: Any) -> None:
        exchanged.append((owner, name, getattr(owner, name)))
        setattr(owner, name, new)

    def opened(descriptor: int) -> Path:
        return Path(f"/proc/self/fd/{descriptor}").readlink()

    def whole(path: Any, folder: int | None = None) -> Path | None:
        """Return a path below the root, or None."""
        if isinstance(path, int):
            place = opened(path)
        else:
            place = (Path.cwd() if folder is None else opened(folder)) / Path(os.fsdecode(path))
        place = place.parent.resolve() / place.name
        return place if place.is_relative_to(root) and place != root else None

    def report(name: str, *paths: Path | None) -> None:
        below = [str(path.relative_to(root)) for path in paths if path is not None]
        if below:
            before(f"{name} {' '.join(below)}")

    def watch(name: str, both: bool = False) -> None:
        plain = getattr(os, name)

        def changed(first: Any, *rest: Any, **more: Any) -> Any:
            folder = more.get("dir_fd")
            paths = [whole(first, folder)] + ([whole(rest[0])] if both else [])
            report(name, *paths)
            return plain(first, *rest, **more)

        exchange(os, name, changed)

    for name in ("unlink", "remove", "rmdir", "mkdir", "truncate", "ftruncate"):
        watch(name)
    for name in ("rename", "replace", "link"):
        watch(name, both=True)
    plain_symlink = os.symlink

    def symlink(target: Any, path: Any, *rest: Any, **more: Any) -> None:
        report("symlink", whole(path))
        plain_symlink(target, path, *rest, **more)

    def os_open(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & _CHANGING:
            report("open", whole(path, more.get("dir_fd")))
        return PLAIN.os_open(path, flags, *rest, **more)

    def os_write(descriptor: int, data: bytes) -> int:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and whole(descriptor) is not None:
            report("write", whole(descriptor))
        return PLAIN.os_write(descriptor, data)

    def fsync(descriptor: int) -> None:
        PLAIN.fsync(descriptor)
        place = opened(descriptor)
        if place.is_relative_to(root):
            synced(place)

    def open_file(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if not set(mode) & set("wax+"):
            return PLAIN.open(file, mode, *rest, **more)
        place = whole(file)
        report("open", place)
        stream = PLAIN.open(file, mode, *rest, **more)
        return stream if place is None else _Watched(stream, lambda: report("write", place))

    exchange(os, "symlink", symlink)
    exchange(os, "open", os_open)
    exchange(os, "write", os_write)
    exchange(os, "fsync", fsync)
    exchange(io, "open", open_file)
    exchange(builtins, "open", open_file)
    try:
        yield
    finally:
        for owner, name, plain in exchanged:
            setattr(owner, name, plain)


class _Watched:
    """A file opened for writing, whose writes are watched, each in two halves."""

    def __init__(self, file: Any, before: Callable[[], None]) -> None:
        self._file = file
        self._before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        middle = len(data) // 2
        for part in (data[:middle], data[middle:]) if middle else (data,):
            self._before()
            self._file.write(part)
            self._file.flush()
        return len(data)

    def __enter__(self) -> _Watched:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._file.__exit__(*error)
