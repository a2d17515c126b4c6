"""The recipe in an adapter's folder, and whether it is the one that is asked for now.

Settings that a newer version has added are not in an older folder. They had no other value then
than the one that is now the default, so that is what they count as.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from tinylm.atomic import write_text
from tinylm.errors import AdapterError, ConfigError
from tinylm.locks import LOCK
from tinylm.reading import read_signed, signed

RECIPE = "finetuning.json"
MANY_UNKNOWN = 0.2
"""Share of unknown words above which a text has little to teach a model that lacks them."""
_NEWER = ("base", "texts")
"""What recipes of earlier versions lack; what they were, nobody knows."""


@with_config(extra="forbid")
class WrittenRecipe(TypedDict):
    """What ``finetuning.json`` holds."""

    method: str
    settings: dict[str, Any] | None
    training: dict[str, Any]
    data: dict[str, Any] | str
    context_length: Annotated[int, Field(ge=1)]
    loss_before: NotRequired[float]
    """Validation loss before an adapter was trained."""
    fingerprint: NotRequired[str]
    """Of a classifier's labelled texts."""
    base: NotRequired[str]
    """Fingerprint of the model that it starts from."""
    texts: NotRequired[list[str]]
    """Fingerprints of the text of both splits."""
    command: NotRequired[str]
    """That goes on with it."""


def write_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Write a recipe with its checksum into the folder of what it makes."""
    write_text(folder / RECIPE, json.dumps(signed(recipe), indent=1))


def read_recipe(folder: Path) -> WrittenRecipe | None:
    """Return what ``write_recipe`` wrote, or None if there is no recipe.

    Raises:
        AdapterError: if it cannot be read or has changed since it was written.
    """
    path = folder / RECIPE
    if not path.exists():
        return None
    return read_signed(
        path, WrittenRecipe, AdapterError, "delete the folder and make it again", older=True
    )


def begun(
    folder: Path,
    recipe: Mapping[str, Any],
    usual: Mapping[str, Any],
    finished: Callable[[], bool],
    warn: Callable[[str], None],
) -> WrittenRecipe | None:
    """Return the recipe of a training that goes on, or None for one that starts.

    A training that left no checkpoint has not begun, whatever its recipe.

    Args:
        folder: of what it makes.
        recipe: as it would be written down now.
        usual: what keys that an older recipe lacks count as, in the same form.
        finished: whether what it makes is there; an AdapterError says that it is damaged.
        warn: is told so.

    Raises:
        ConfigError: if the folder holds what another recipe made, what this one made, finished, or
            something else.
        AdapterError: if the recipe that is there cannot be read.
    """
    before = read_recipe(folder)
    if before is None:
        if folder.exists() and any(path.name != LOCK for path in folder.iterdir()):
            raise ConfigError(f"{folder} holds something else already: choose another --name")
        return None
    damaged = False
    try:
        done = finished()
    except AdapterError as error:
        done = damaged = True
        warn(f"{error}: it is made again")
    if not done and not any((folder / "checkpoints").glob("step-*")):
        return None
    different = difference(
        _compared(before), _compared(recipe), {**usual, **_compared(recipe, _NEWER)}
    )
    if different is not None:
        raise ConfigError(
            f"{folder} holds what was made with another {different}: choose another --name, or "
            "delete that folder"
        )
    if done and not damaged:
        raise ConfigError(f"{folder} is finished: choose another --name")
    return None if damaged else before


def unfinished(folder: Path) -> str | None:
    """Say how to go on with what is not finished in a folder, or return None if it is."""
    recipe = read_recipe(folder)
    if recipe is None or recipe["method"] == "full" or not (folder / "checkpoints").exists():
        return None
    command = recipe.get("command", "give the command again that began it")
    return f"{folder} is not finished: go on: {command}"


def _compared(recipe: Mapping[str, Any], keys: Collection[str] | None = None) -> dict[str, Any]:
    """Return what decides what a recipe makes: not where the text lies, which may have moved."""
    values = {key: value for key, value in recipe.items() if key not in ("loss_before", "command")}
    if isinstance(values["data"], Mapping):
        places = ("path", "cache_folder", "workers")
        values["data"] = {k: v for k, v in values["data"].items() if k not in places}
    else:
        del values["data"]
    return values if keys is None else {key: values[key] for key in keys if key in values}


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
    before, now, defaults = (
        json.loads(json.dumps(settings)) for settings in (before, now, defaults)
    )
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
