"""Files that are either whole or not there: written under a temporary name, synced, renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tinylm import folders
from tinylm.locks import refuse_lost


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes the name ``path`` only when the block ends without an error.

    A link stays a link: what it leads to is written.

    Raises:
        OSError: if the file cannot be written, or ``path`` is a folder, a device or anything else
            that is no file; it is then what it was before.
        LostFolderError: if it is below a folder that this process has locked and that is not there
            any more.
    """
    path = Path(path)
    refuse_lost(path)
    if path.exists() and not path.is_file():
        # Whoever may would put a plain file in the place of /dev/null, for every process.
        raise FileExistsError(errno.EEXIST, "is a folder or a device, not a file", str(path))
    if path.is_symlink():
        path = path.resolve()
    temporary = folders.temporary(path)
    try:
        folders.make(path.parent)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folders.sync(path.parent)
    except BaseException as error:
        if temporary.exists():
            temporary.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # the error of a full disk does not name the file
        raise


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_write(path) as file:
        file.write(content)


def write_text(path: str | Path, text: str) -> None:
    """Write a whole UTF-8 file atomically."""
    write_bytes(path, text.encode("utf-8"))
