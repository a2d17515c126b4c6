"""``tinylm train``."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import ConfigFile, Data, Name, Overrides, Preset, configuration, run_folder
from tinylm.cli.output import say
from tinylm.perplexity import perplexity_text


def train(
    preset: Preset = None,
    config: ConfigFile = None,
    data: Data = None,
    name: Name = None,
    override: Overrides = [],  # noqa: B006
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted run.")
    ] = None,
) -> None:
    """Train a model; without options, the baseline on the embedded stories."""
    from tinylm.cli.console import TerminalConsole
    from tinylm.errors import ConfigError
    from tinylm.experiments.context import (
        create_run,
        open_run,
        refuse_no_run,
        run_experiment,
        writing,
    )
    from tinylm.experiments.preparation import prepare_data, resolve

    console = TerminalConsole()
    if resume is not None:
        if preset or config or data or name:
            raise ConfigError(
                "--resume goes on with the run's own configuration: leave out --preset, "
                "--config, --data and --name"
            )
        refuse_no_run(resume)
        with writing(resume, console):
            context = replace(open_run(resume, console, override), keeps=True)
            result = run_experiment("training", context)
    else:
        wanted = configuration(preset, config, data, override)
        folder = run_folder(name, preset, config)
        with writing(folder, console):
            if (folder / "config.yaml").exists():
                raise ConfigError(
                    f"{folder} holds a run already: choose --name, or go on: "
                    + shlex.join(["tinylm", "train", "--resume", str(folder)])
                )
            resolved = resolve(wanted, prepare_data(wanted, console))
            context = create_run(folder, resolved, console)
            result = run_experiment("training", context)
    best = result["best"]
    console.note(
        f"{context.folder}: {result['steps']:,} steps, "
        f"{result['tokens_per_second']:,.0f} tokens/s, "
        f"best validation perplexity {perplexity_text(best['perplexity'])} at step {best['step']:,}"
    )
    say(str(context.folder))
