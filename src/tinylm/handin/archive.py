"""A zip whose bytes depend on its files alone, and which is recognised as one of ours."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tinylm.atomic import write_bytes
from tinylm.errors import ConfigError

_COMMENT = b"made by tinylm handin"
_BEGINNING = b"PK\x03\x04"
_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip can hold; when a file was made is not part of what is handed in."""
_MODE = 0o100644
_UNIX = 3


def write_archive(path: Path, folder: str, files: Mapping[str, bytes]) -> None:
    """Write files into a zip, all below one folder, in the order of their names.

    Raises:
        OSError: if it cannot be written; what was there stays.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.comment = _COMMENT
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"{folder}/{name}", _TIME)
            entry.external_attr = _MODE << 16
            entry.create_system = _UNIX
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED, compresslevel=9)
    write_bytes(path, content.getvalue())


def refuse_other(path: Path) -> None:
    """Refuse to write over anything but a zip of ``write_archive``.

    Raises:
        ConfigError: naming what is there.
    """
    if path.is_dir():
        raise ConfigError(f"--out {path} is a folder: give the name of a file in it")
    if not path.exists():
        return
    with path.open("rb") as file:
        beginning = file.read(len(_BEGINNING))
        file.seek(max(0, path.stat().st_size - len(_COMMENT)))
        end = file.read(len(_COMMENT))
    if (beginning, end) != (_BEGINNING, _COMMENT):
        raise ConfigError(
            f"{path} is there and is nothing that was handed in: give another name with --out, or "
            "move it away"
        )
