"""What the texts of a run are called in what is said of it: stories, or pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unit:
    """Names of an item, of what a model is trained on of items, and of a text in one."""

    item: str
    items: str
    window: str
    windows: str
    text: str
    texts: str


UNITS: Mapping[str, Unit] = {
    "story": Unit("story", "stories", "window", "windows", "story", "stories"),
    "pair": Unit("pair", "pairs", "pair", "pairs", "text", "texts"),
}
"""By the noun of a token file's header."""


def unit_of(result: Mapping[str, Any]) -> Unit:
    """Return the names that an experiment's result gives as ``unit``; earlier ones give none."""
    return UNITS[result.get("unit", "story")]
