"""Modules of a model by their paths, and patterns that mean some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TypeVar

from tinylm.errors import TinylmError, shown

Part = TypeVar("Part")


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


def chosen_by(
    patterns: Iterable[str],
    known: Mapping[str, Part],
    nothing: str,
    refuse: Callable[[str], TinylmError],
) -> dict[str, Part]:
    """Return those of some modules that a pattern means, in their order.

    Args:
        patterns: see ``matches``.
        known: path -> module, of those that can be meant.
        nothing: what the error calls that which a pattern matches if it means none of them.
        refuse: makes the error.

    Raises:
        TinylmError: ``refuse``'s, if a pattern means none of them, naming those there are.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        matched = [path for path in known if matches(path, pattern)]
        if not matched:
            raise refuse(
                f"target {shown(pattern)} matches {nothing}; there are: "
                + (", ".join(without_numbers(known)) or "none")
            )
        chosen.update(matched)
    return {path: part for path, part in known.items() if path in chosen}
