"""``tinylm report``."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import ConfigFile, Data, Name, Overrides, Preset, configuration, run_folder
from tinylm.cli.output import say


def report(
    preset: Preset = None,
    config: ConfigFile = None,
    data: Data = None,
    name: Name = None,
    override: Overrides = [],  # noqa: B006
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Report on a run that exists.")
    ] = None,
    experiments: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="Run and report on these experiments, or on `all`; empty: report.experiments.",
        ),
    ] = None,
) -> None:
    """Train, measure, draw and write it up; what is done already is not done again."""
    from tinylm.cli.console import TerminalConsole
    from tinylm.errors import ConfigError
    from tinylm.experiments.compressing import has_training
    from tinylm.experiments.context import (
        create_run,
        open_run,
        refuse_no_run,
        run_experiment,
        writing,
    )
    from tinylm.experiments.document.build import build_report
    from tinylm.experiments.preparation import prepare_data, resolve
    from tinylm.locks import locked
    from tinylm.registry import EXPERIMENTS

    console = TerminalConsole()
    override = [*override, *_named(experiments, override)]
    if run is not None:
        if preset or config or data or name:
            raise ConfigError("--run reports on that run's own configuration: leave out the rest")
        for setting in override:
            if setting.partition(".")[0].strip() == "training":
                command = shlex.join(["tinylm", "train", "--resume", str(run), "-o", setting])
                raise ConfigError(
                    f"-o {setting}: the report prints the settings that {run} was trained with; "
                    f"train it further with other ones: {command}"
                )
        refuse_no_run(run)
    folder = run or run_folder(name, preset, config)
    with writing(folder, console):
        if run is not None:
            context = open_run(run, console, override)
        else:
            wanted = configuration(preset, config, data, override)
            resolved = resolve(wanted, prepare_data(wanted, console))
            context = create_run(folder, resolved, console)
        context = replace(context, reports=True)
        trained = has_training(context.folder)
        for experiment in context.config.report.experiments:
            if EXPERIMENTS.load(experiment).trains_run and not trained:
                console.note(f"— {experiment} is left out: {folder} was made of another run")
                continue
            if not EXPERIMENTS.load(experiment).suits(context.config):
                kind = context.config.model.kind
                console.note(f"— {experiment} is left out: it is about what {kind} does not have")
                continue
            console.note(f"— {experiment}")
            run_experiment(experiment, context)
        # Which `tinylm attention` writes to as well.
        with (
            locked(context.figures, console.warn, wait=True),
            console.task("Writing the report"),
        ):
            paths = build_report(context.folder, context.config)
    for path in paths.values():
        say(str(path))


def _named(experiments: str | None, overrides: list[str]) -> list[str]:
    """Return the setting that ``--experiments`` stands for."""
    import json

    from tinylm.errors import ConfigError
    from tinylm.registry import EXPERIMENTS

    if experiments is None:
        return []
    if any(setting.startswith("report.experiments=") for setting in overrides):
        raise ConfigError("--experiments and -o report.experiments=… name both: leave one out")
    names = [name.strip() for name in experiments.split(",")]
    if names == ["all"]:
        names = list(EXPERIMENTS)
    for name in names:
        EXPERIMENTS.check(name)
    return [f"report.experiments={json.dumps(names)}"]
