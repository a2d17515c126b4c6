"""``tinylm report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import ConfigFile, Data, Name, Overrides, Preset, configuration, run_folder


def report(
    preset: Preset = None,
    config: ConfigFile = None,
    data: Data = None,
    name: Name = None,
    override: Overrides = [],  # noqa: B006
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Report on a run that exists.")
    ] = None,
) -> None:
    """Train, measure, draw and write it up; what is done already is not done again."""
    from tinylm.cli.console import TerminalConsole
    from tinylm.errors import ConfigError
    from tinylm.experiments.context import create_run, open_run, run_experiment
    from tinylm.experiments.preparation import prepare_data, resolve
    from tinylm.report.build import build_report

    console = TerminalConsole()
    if run is not None:
        if preset or config or data or name:
            raise ConfigError("--run reports on that run's own configuration: leave out the rest")
        context = open_run(run, console, override)
    else:
        wanted = configuration(preset, config, data, override)
        resolved = resolve(wanted, prepare_data(wanted, console))
        context = create_run(run_folder(name, preset, config), resolved, console)
    for experiment in context.config.report.experiments:
        console.note(f"— {experiment}")
        run_experiment(experiment, context)
    with console.task("Writing the report"):
        paths = build_report(context.folder)
    for path in paths.values():
        typer.echo(str(path))
