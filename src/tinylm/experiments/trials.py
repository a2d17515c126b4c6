"""Trainings below a run's folder that an experiment makes, measures and deletes."""

from __future__ import annotations

from typing import Any

from tinylm import folders
from tinylm.config import RunConfig
from tinylm.errors import ConfigError
from tinylm.experiments.context import Context, WithoutNotes, create_run, run_experiment
from tinylm.experiments.training import StoppedBySignalError


def train_trial(context: Context, config: RunConfig, experiment: str, name: str) -> dict[str, Any]:
    """Train as a run of its own, ``RUN/EXPERIMENT/NAME``, and return the result of its training.

    A training that was interrupted goes on where it stopped; one of other settings is made anew.

    Raises:
        StoppedBySignalError: if a signal stopped it; its state is saved.
    """
    folder = context.folder / experiment / name
    try:
        inner = create_run(folder, config, WithoutNotes(context.console))
    except ConfigError:  # of other settings, which a result that is made again does not have
        folders.remove(folder)
        inner = create_run(folder, config, WithoutNotes(context.console))
    try:
        return run_experiment("training", inner)
    except StoppedBySignalError as error:
        command = f"tinylm experiment {experiment} --run {context.folder} --again"
        raise StoppedBySignalError(error.outcome, command) from error
