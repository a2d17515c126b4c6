"""Trainings below a run's folder that an experiment makes, measures and deletes."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any, NamedTuple

from tinylm import folders
from tinylm.config import RunConfig, TrainingConfig, as_options, load_config, overrides_between
from tinylm.errors import ConfigError
from tinylm.experiments.context import Context, WithoutNotes, create_run, run_experiment
from tinylm.training.commands import Commands


class Remedy(NamedTuple):
    """How an experiment is run again without a training that diverges."""

    words: str
    """Such as ``run it at a lower rate``."""
    setting: str
    """``key=value``."""


def short(
    training: TrainingConfig, steps: int, windows: int, checkpoints: int = 1
) -> TrainingConfig:
    """Return the settings of a training of so many steps, whose schedule ends with them.

    It is validated once, at its end, on ``windows`` windows, and logs as little as can be; it
    keeps ``checkpoints`` of the latest beside the best one.
    """
    return replace(
        training,
        max_steps=steps,
        warmup_steps=min(training.warmup_steps, steps // 10),
        validation_windows=windows,
        validation_interval=steps,
        log_interval=steps,
        early_stop_patience=0,
        keep_checkpoints=checkpoints,
        snapshots=0,
        tensorboard=False,
        wandb=False,
    )


def train_trial(
    context: Context, config: RunConfig, experiment: str, name: str, remedy: Remedy
) -> dict[str, Any]:
    """Train as a run of its own, ``RUN/EXPERIMENT/NAME``, and return the result of its training.

    A training that was interrupted goes on where it stopped; one of other settings is made anew.

    Args:
        context: of the run whose experiment it is.
        config: of the training.
        experiment: that it is part of.
        name: of the training.
        remedy: for the error if it diverges.

    Raises:
        StoppedBySignalError: if a signal stopped it; its state is saved.
        TrainingError: if it diverged.
    """
    folder = context.folder / experiment / name
    try:
        inner = create_run(folder, config, WithoutNotes(context.console))
    except ConfigError:  # of other settings, which a result that is made again does not have
        folders.remove(folder)
        inner = create_run(folder, config, WithoutNotes(context.console))
    commands = commands_of(context, experiment, remedy)
    return run_experiment("training", replace(inner, commands=commands, within=context))


def commands_of(context: Context, experiment: str, remedy: Remedy) -> Commands:
    """Return what to type when a training stops before its end: the whole experiment again.

    A run's own command would train what the experiment does not ask for.
    """
    stored = context.folder / "config.yaml"
    # What is kept becomes the run's; what is not must be given again.
    known = context.keeps or not stored.exists()
    given = [] if known else overrides_between(load_config(stored), context.config)
    if context.reports:
        words = ["tinylm", "report", "--run", str(context.folder)]
        if remedy.setting.startswith("training."):  # which a report does not take
            others = [name for name in context.config.report.experiments if name != experiment]
            remedy = Remedy("leave the experiment out", f"report.experiments={json.dumps(others)}")
    else:
        words = ["tinylm", "experiment", experiment, "--run", str(context.folder), "--again"]

    def command(settings: list[str]) -> str:
        return shlex.join([*words, *as_options(settings)])

    key = remedy.setting.partition("=")[0]
    others = [setting for setting in given if setting.partition("=")[0] != key]
    return Commands(command(given), f"{remedy.words}: {command([*others, remedy.setting])}")
