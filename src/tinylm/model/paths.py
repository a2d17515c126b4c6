"""Modules of a model by their paths, and patterns that mean some of them."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


def matches(path: str, pattern: str) -> bool:
    """Whether a pattern means the module at a path.

    Args:
        path: of a module.
        pattern: the path or its end after a dot (``attention.output`` is also
            ``layers.0.attention.output``); all of the path if it starts with a dot; ``*`` stands
            for anything.
    """
    return fnmatchcase(f".{path}", pattern if pattern.startswith(".") else f"*.{pattern}")


def without_numbers(paths: Iterable[str]) -> list[str]:
    """Return paths with layer numbers replaced by ``*``, each once."""
    kinds = (
        ".".join("*" if step.isdigit() else step for step in path.split(".")) for path in paths
    )
    return list(dict.fromkeys(kinds))
