"""Folders: made and synced, deleted in one step, cleared of what killed processes left.

What is unfinished, or being deleted, has a name of the form ``.NAME.PID.tmp``. If its process is
killed, whoever locks the folder next (``tinylm.locks``) deletes it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LEFTOVERS = ".*.tmp"


def temporary(path: Path) -> Path:
    """Return the name that a file or folder has while it is unfinished or being deleted."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def make(folder: Path) -> list[Path]:
    """Make a folder and those above it, and wait until their names are on the disk.

    Returns:
        Those that had to be made, the innermost first.

    Raises:
        OSError: if one cannot be made.
    """
    missing = []
    for path in (folder, *folder.parents):
        if path.is_dir():
            break
        missing.append(path)
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync(path.parent)
    return missing


def sync(folder: Path) -> None:
    """Wait until the names in a folder are on the disk.

    Raises:
        OSError: if it cannot be opened or synced.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(folder: Path) -> None:
    """Delete a folder and all that is in it; its name disappears in one step.

    Raises:
        OSError: if it cannot be renamed; it is then as it was.
    """
    aside = temporary(folder)
    folder.rename(aside)
    sync(folder.parent)
    shutil.rmtree(aside)


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the name ``folder`` when the block ends without an error.

    One of that name that is there already, which a killed process left, is deleted first.

    Raises:
        OSError: if it cannot be made; none of that name is there then.
    """
    if folder.exists():
        remove(folder)
    unfinished = temporary(folder)
    try:
        unfinished.mkdir()
        yield unfinished
        unfinished.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Delete what killed processes left unfinished in a folder, not in those below it."""
    for path in folder.glob(LEFTOVERS):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
