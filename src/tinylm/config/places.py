"""Settings that say where something lies: text, vectors, images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tinylm.config.settings import RunConfig
from tinylm.registry import EXPERIMENTS

MOVABLE = ("data.path", "data.cache_folder", "data.workers", "vectors.path")
"""Settings of a run's text and start that may change: the same may lie somewhere else now, or be
prepared by more processes."""


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """Return the configuration with paths that mean the same from every folder."""
    experiments = config.experiments
    for name in EXPERIMENTS:
        experiment = EXPERIMENTS.load(name)
        if experiment.places:
            settings = getattr(experiments, experiment.key)
            paths = {place: absolute(getattr(settings, place)) for place in experiment.places}
            experiments = replace(experiments, **{experiment.key: replace(settings, **paths)})
    return replace(
        config,
        data=replace(config.data, path=absolute(config.data.path)),
        vectors=replace(config.vectors, path=absolute(config.vectors.path)),
        experiments=experiments,
    )


def absolute(path: str | None) -> str | None:
    """Return a path as one from the root; ``~`` is the home folder."""
    return None if path is None else str(Path(path).expanduser().absolute())
