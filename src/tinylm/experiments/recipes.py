"""The recipe in an adapter's folder, and whether it is the one that is asked for now.

Settings that a newer version has added are not in an older folder. They had no other value then
than the one that is now the default, so that is what they count as.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from tinylm.atomic import write_text
from tinylm.errors import AdapterError
from tinylm.reading import read_signed, signed


class WrittenRecipe(TypedDict):
    """What ``finetuning.json`` holds."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    method: str
    settings: dict[str, Any] | None
    training: dict[str, Any]
    data: dict[str, Any] | str
    context_length: Annotated[int, Field(ge=1)]
    loss_before: NotRequired[float]
    """Validation loss before an adapter was trained."""
    fingerprint: NotRequired[str]
    """Of a classifier's labelled texts."""


def write_recipe(path: Path, recipe: Mapping[str, Any]) -> None:
    """Write a recipe with its checksum."""
    write_text(path, json.dumps(signed(recipe), indent=1))


def read_recipe(path: Path) -> WrittenRecipe | None:
    """Return what ``write_recipe`` wrote, or None if there is no such file.

    Raises:
        AdapterError: if it cannot be read or has changed since it was written.
    """
    if not path.exists():
        return None
    return read_signed(
        path, WrittenRecipe, AdapterError, "delete the folder and run `tinylm finetune`", older=True
    )


def difference(
    before: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any]
) -> str | None:
    """Say where two recipes differ first, in the order of the present one.

    Args:
        before: as it was written down.
        now: as it would be written down.
        defaults: what keys that ``before`` lacks count as, in the same form.

    Returns:
        Such as ``settings.rank (8, now 2)``, or None if they are the same.
    """
    before, now, defaults = (json.loads(json.dumps(one)) for one in (before, now, defaults))
    for key in (*now, *(key for key in before if key not in now)):
        if key not in now:
            return f"{key} ({_shown(before[key])}, which is no longer known)"
        old = before.get(key, defaults.get(key))
        if isinstance(old, dict) and isinstance(now[key], dict):
            inner = difference(old, now[key], defaults.get(key) or {})
            if inner is not None:
                return f"{key}.{inner}"
        elif old != now[key]:
            return f"{key} ({_shown(old)}, now {_shown(now[key])})"
    return None


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).strip('"')
