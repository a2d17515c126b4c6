"""Names that a user gives to runs, adapters and figures; each becomes one folder or file."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from tinylm.errors import ConfigError

_MOST_BYTES = 150  # a file system has 255, of which suffixes and temporary names take some


def checked_name(name: str, what: str) -> str:
    """Return a name if it can be that of one file or folder within another.

    Args:
        name: as given.
        what: it names, for the message: ``--name``.

    Raises:
        ConfigError: if it is empty or too long, would leave the folder (``..``, separators), would
            be hidden (a dot in front), looks like an option (``-`` in front), or holds control
            characters, line ends or white space at either end.
    """
    problem = None
    if not name.strip():
        problem = "is empty"
    elif "/" in name or "\\" in name:
        problem = "is a path: give a name without / and \\"
    elif name[0] in ".-":
        problem = "starts with a dot or a dash"
    elif name != name.strip():
        problem = "has white space at an end"
    elif not name.isprintable():
        problem = "holds a control character or a line end"
    elif len(name.encode("utf-8")) > _MOST_BYTES:
        problem = f"has more than {_MOST_BYTES} bytes"
    if problem is not None:
        shown = ascii(name if len(name) <= 60 else f"{name[:60]}…")
        raise ConfigError(f"{what} {shown} {problem}")
    return name


def nearest_folder(path: Path) -> str:
    """Return ``"; did you mean runs/quick?"`` for a folder that does not exist, or nothing.

    Folders beside it are looked at, and those of ``runs`` where a bare name is given.
    """
    places = [path.parent, *([Path("runs")] if path.parent == Path() else [])]
    for place in places:
        names = [p.name for p in place.iterdir() if p.is_dir()] if place.is_dir() else []
        close = get_close_matches(path.name, [n for n in names if n[0] != "."], n=2, cutoff=0.5)
        if close:
            return f"; did you mean {' or '.join(str(place / name) for name in close)}?"
    return ""


def checked_path(path: Path, what: str) -> Path:
    """Return a path if it can be shown and typed again.

    Args:
        path: of what will be written.
        what: it is, for the message: ``--out``.

    Raises:
        ConfigError: if it holds control characters or line ends.
    """
    if not str(path).isprintable():
        raise ConfigError(f"{what} {str(path)!a} holds a control character or a line end")
    return path


def checked_file(path: Path, what: str, *read: Path) -> Path:
    """Return a path if a file can be written there, before the work that ends in it.

    Args:
        path: of the file, which may be there already; folders above it need not be.
        what: it is, for the message: ``--out``.
        read: what the same command reads, which it must not write over: files, or folders of files.

    Raises:
        ConfigError: if it holds control characters or line ends, is a folder or a device, or is
            below what is no folder that can be written to, or is what is read.
        OSError: if there can be no such name.
    """
    checked_path(path, what)
    if path.is_dir():
        raise ConfigError(f"{what} {path} is a folder: give the name of a file")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{what} {path} is a device or a pipe: give the name of a file")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise ConfigError(f"{what} {path} cannot be written: {above} is a file, not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ConfigError(f"{what} {path} cannot be written: the folder {above} is read-only")
    for source in read if path.exists() else ():
        inside = source.is_dir() and path.resolve().is_relative_to(source.resolve())
        if inside or (source.exists() and path.samefile(source)):
            raise ConfigError(f"{what} {path} is a file that is read: give another name")
    return path
