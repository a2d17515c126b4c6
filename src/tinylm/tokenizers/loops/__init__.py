"""The compiled loops of the tokenizers: each goes through the bytes of many texts in one call.

They compute what plain Python beside them computes, which tests hold them to. numba is loaded with
the first of them, so callers import them where they need them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """Return a function that is compiled when it is first called, or read from its cache."""
    try:
        return njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to keep a cache in may be written to
        return njit(error_model="numpy")(function)
