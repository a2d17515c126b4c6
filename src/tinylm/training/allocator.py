"""Keep freed memory for the next step, and give it back between pieces of work.

Every training step allocates and frees the same large arrays. glibc maps those above some size anew
each time and gives them back when freed, and the system must clear every page before it is used
again: a sixth of a step of a small model. With these settings the process keeps the size of its
largest step, and grows beyond it when steps of other sizes leave gaps that they cannot use.
``give_back_freed_memory`` is therefore called between pieces of work.
"""

from __future__ import annotations

import ctypes
import gc
import sys

# From glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory, for the rest of the process.

    Returns:
        Whether it was done; only glibc has these settings.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _LARGEST_INT, _TOP_PAD: 2**28}
    return all(mallopt(name, value) == 1 for name, value in settings.items())


def give_back_freed_memory() -> None:
    """Return to the system what is free now; without effect where the C library is not glibc.

    A process that keeps freed memory goes on keeping what it frees afterwards.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
