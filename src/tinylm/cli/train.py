"""``tinylm train``."""

from __future__ import annotations

import os
import shlex
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinylm.cli.options import ConfigFile, Data, Name, Overrides, Preset, configuration, run_folder
from tinylm.cli.output import say
from tinylm.perplexity import perplexity_text

if TYPE_CHECKING:
    from tinylm.config import RunConfig
    from tinylm.experiments.context import Context
    from tinylm.training.processes.group import Processes


def train(
    preset: Preset = None,
    config: ConfigFile = None,
    data: Data = None,
    name: Name = None,
    override: Overrides = [],  # noqa: B006
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted run.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, metavar="N", help="Share every batch out among N processes.")
    ] = 1,
    restarts: Annotated[
        int, typer.Option(min=0, metavar="N", help="Start them again N times if one fails.")
    ] = 0,
) -> None:
    """Train a model; without options, the baseline on the embedded stories."""
    from tinylm.errors import ConfigError
    from tinylm.training.processes.joining import joined, place_in

    if resume is not None and (preset or config or data or name):
        raise ConfigError(
            "--resume goes on with the run's own configuration: leave out --preset, --config, "
            "--data and --name"
        )
    given = _Given(preset, config, data, name, override, resume)
    if processes == 1 and not restarts:
        with joined() as group:
            _train(group, given)
    elif place_in(os.environ) is None:
        _launch(processes, restarts, given)
    else:
        raise ConfigError(
            "torchrun has started this process and others: leave out --processes and --restarts, "
            "and say so to torchrun"
        )


@dataclass(frozen=True)
class _Given:
    """The options that say what is trained."""

    preset: str | None
    config: Path | None
    data: str | None
    name: str | None
    override: list[str]
    resume: Path | None

    def wanted(self) -> RunConfig:
        """Return the settings of a new run."""
        return configuration(self.preset, self.config, self.data, self.override)


def _launch(processes: int, restarts: int, given: _Given) -> None:
    """Start processes of this command; what can be refused before is."""
    from tinylm.experiments.context import refuse_no_run
    from tinylm.training.processes.launching import launch

    if given.resume is None:
        given.wanted()
    else:
        refuse_no_run(given.resume)
    arguments = ["train"]
    for option in ("preset", "config", "data", "name", "resume"):
        if (value := getattr(given, option)) is not None:
            arguments += [f"--{option}", str(value)]
    for each in given.override:
        arguments += ["-o", each]
    launch(arguments, processes, restarts)


def _train(group: Processes, given: _Given) -> None:
    """Train in this process, and with others of a group."""
    from tinylm.cli.console import TerminalConsole
    from tinylm.errors import ConfigError
    from tinylm.experiments.context import (
        Console,
        SilentConsole,
        create_run,
        open_run,
        refuse_no_run,
        writing,
    )
    from tinylm.experiments.preparation import prepare_data, resolve

    first = group.rank == 0
    console: Console = TerminalConsole() if first else SilentConsole()
    resume, override = given.resume, given.override
    if resume is None:
        wanted = given.wanted()
    folder = resume or run_folder(given.name, given.preset, given.config)
    # Processes that are started again go on with what they began.
    began = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    if group.most(int(first and began and (folder / "config.yaml").exists())):
        resume, override = folder, []  # the run has them
    if resume is not None:
        refuse_no_run(resume)
    with writing(folder, console) if first else nullcontext():
        if resume is not None:
            context = replace(open_run(folder, console, override), keeps=True)
        else:
            if first and (folder / "config.yaml").exists():
                raise ConfigError(
                    f"{folder} holds a run already: choose --name, or go on: "
                    + shlex.join(["tinylm", "train", "--resume", str(folder)])
                )
            resolved = resolve(wanted, prepare_data(wanted, console))
            context = create_run(folder, resolved, console)
        result = _run(replace(context, processes=group))
    if not first:
        return
    best = result["best"]
    console.note(
        f"{context.folder}: {result['steps']:,} steps, "
        f"{result['tokens_per_second']:,.0f} tokens/s, "
        f"best validation perplexity {perplexity_text(best['perplexity'])} at step {best['step']:,}"
    )
    say(str(context.folder))


def _run(context: Context) -> dict[str, Any]:
    """Train; the first of several processes keeps the result."""
    from tinylm.experiments.context import run_experiment
    from tinylm.registry import EXPERIMENTS

    if context.processes.rank == 0:
        return run_experiment("training", context)
    result: dict[str, Any] = EXPERIMENTS.load("training").run(context)
    return result
