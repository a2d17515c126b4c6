"""Text that is piped in."""

from __future__ import annotations

import os
import stat
import sys

from tinylm.errors import DataError


def piped_text() -> str | None:
    """Return what a pipe or a file gives at the standard input, without its last line break.

    None where it is neither, such as a terminal, or empty: then it does not wait for input.

    Raises:
        DataError: if it is not UTF-8.
    """
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # closed, or no stream of the system
        return None
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return None
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise DataError(f"the text piped in is not UTF-8 ({error.reason}): convert it") from None
    return text.removesuffix("\n").removesuffix("\r") or None
