"""What a result came from: kept in it, and compared before it is used again.

A result is kept with the settings it depends on, the fingerprint of the text (and of vectors or
images), the checkpoint that was measured, and the form of its experiment: a number that an
experiment counts up when its result holds other values. A setting that a newer version has added
counts as its default, so that results made before stay good.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tinylm.checkpoint import damage, find_checkpoint, refuse_damaged
from tinylm.config import RunConfig, to_dict
from tinylm.data.corpora import open_corpus
from tinylm.errors import CheckpointError, ConfigError, DataError
from tinylm.experiments.experiment import CHECKPOINTS, DATA, IMAGES, VECTORS, WEIGHTS, Experiment
from tinylm.experiments.recipes import difference
from tinylm.fingerprints import file_sha256
from tinylm.registry import EXPERIMENTS

_PLACES = {"data": ("path", "cache_folder", "workers"), "vectors": ("path",)}
"""Settings that say where something lies, which is compared itself, or how it is prepared."""

Origin = dict[str, Any]
Gone = Callable[[str, DataError], Any]


def depends_on(name: str) -> Sequence[str]:
    """Return what an experiment's result depends on, such as ``training`` or ``report.prompts``."""
    experiment: Experiment = EXPERIMENTS.load(name)
    return experiment.depends_on


def origin(name: str, config: RunConfig, folder: Path, gone: Gone | None = None) -> Origin:
    """Return what the result of an experiment would come from now, as JSON values.

    Args:
        name: the experiment.
        config: of the run.
        folder: of the run.
        gone: gives the value of a part whose file or folder is not there; empty: that is an error.

    Raises:
        CheckpointError: if the checkpoint to measure is damaged.
        DataError: if text, vectors or images cannot be read.
    """
    experiment: Experiment = EXPERIMENTS.load(name)
    parts: Origin = {"form": experiment.form}
    for part in depends_on(name):
        try:
            parts[part] = _value(part, config, folder, experiment)
        except DataError as error:
            place = _place(part, config, experiment)
            if gone is None or place is None or place.exists():
                raise
            parts[part] = gone(part, error)
    return parts


def measured_text(kept: Origin) -> str | None:
    """Return the fingerprint of the text that a model is measured on, if it is."""
    return kept[DATA]["fingerprint"] if WEIGHTS in kept and kept.get(DATA) else None


def made_by(name: str, config: RunConfig, folder: Path) -> Origin:
    """Return the parts of an origin that the experiment itself makes."""
    parts = [part for part in depends_on(name) if part == CHECKPOINTS]
    return {part: _value(part, config, folder, EXPERIMENTS.load(name)) for part in parts}


def unlike(kept: Any, now: Origin) -> str | None:
    """Say where a kept origin differs from the present one first, or None if it does not."""
    if not isinstance(kept, dict):
        return "it was made by an earlier version"
    defaults = {part: _settings(part, RunConfig()) for part in now if _is_settings(part)}
    # What an experiment no longer depends on may have been anything.
    reason = difference({part: kept[part] for part in kept if part in now}, now, defaults)
    changed = {  # of which a hash says nothing to a reader
        CHECKPOINTS: "checkpoints: those that training left have changed",
        WEIGHTS: "weights: the checkpoint that it measured is another now",
        IMAGES: "images: they are others now",
    }
    for part, words in changed.items():
        if reason is not None and re.match(rf"{part}\b", reason):
            return words
    return reason


def refuse_without_effect(names: Sequence[str], overrides: Sequence[str], what: str) -> None:
    """Refuse settings that the results of these experiments do not depend on.

    Args:
        names: of the experiments.
        overrides: ``key=value``.
        what: is run, for the message.

    Raises:
        ConfigError: naming the first.
    """
    parts = {part for name in names for part in depends_on(name)}
    for override in overrides:
        key = override.partition("=")[0].strip()
        if not any(f"{key}.".startswith(f"{part}.") for part in parts):
            raise ConfigError(f"-o {override}: {what} does not depend on it: leave it out")


def _is_settings(part: str) -> bool:
    return part not in ("form", DATA, IMAGES, WEIGHTS, CHECKPOINTS)


def _settings(part: str, config: RunConfig) -> Any:
    """Return the settings of a part, those left out that say where something lies."""
    section, _, key = part.partition(".")
    value = to_dict(config)[section]
    if key:
        value = value[key]
    places = _PLACES.get(section, ())
    if section == "experiments":
        places = EXPERIMENTS.load(key.replace("_", "-")).places
    if isinstance(value, dict):
        value = {name: setting for name, setting in value.items() if name not in places}
    return value


def _value(part: str, config: RunConfig, folder: Path, experiment: Experiment) -> Any:
    if part == DATA:
        return {
            "corpus": config.data.corpus,
            "fingerprint": open_corpus(config.data).fingerprint(),
        }
    if part == IMAGES:
        return experiment.images(config)
    if part == WEIGHTS:
        return _checkpoint(folder)
    if part == CHECKPOINTS:
        return {name: _whole(folder / CHECKPOINTS / name) for name in ("last", "best")}
    settings = _settings(part, config)
    if part == VECTORS and config.vectors.path is not None:
        settings["file"] = _file(Path(config.vectors.path).expanduser())
    return settings


def _place(part: str, config: RunConfig, experiment: Experiment) -> Path | None:
    """Return where a part's text, vectors or images lie, if that is a setting."""
    places = {DATA: config.data.path, VECTORS: config.vectors.path}
    if experiment.places:
        settings = getattr(config.experiments, experiment.key)
        places[IMAGES] = getattr(settings, experiment.places[0])
    path = places.get(part)
    return None if path is None else Path(path).expanduser()


def _checkpoint(folder: Path) -> str | None:
    """Name the checkpoint of a run that is measured; None where there is none."""
    try:
        path = find_checkpoint(folder)
    except CheckpointError:
        return None
    refuse_damaged(path)
    return file_sha256(path / "manifest.json")


def _whole(path: Path) -> str | None:
    """Name a checkpoint that training has left; None where it is damaged or not there."""
    return file_sha256(path / "manifest.json") if damage(path) is None else None


def _file(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
