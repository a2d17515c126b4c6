"""``tinylm experiment``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinylm.cli.options import Overrides
from tinylm.cli.output import say

if TYPE_CHECKING:
    from tinylm.experiments.context import Console, Context
    from tinylm.experiments.experiment import Experiment


def experiment(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="See --list.")] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="The run it works on; for one that needs none, where it goes (runs/NAME).",
        ),
    ] = None,
    override: Overrides = [],  # noqa: B006
    again: Annotated[bool, typer.Option(help="Run it even if its result is there.")] = False,
    show_list: Annotated[bool, typer.Option("--list", help="List the experiments.")] = False,
) -> None:
    """Run one experiment on a run, and write a few pages about it beside its result."""
    from tinylm.registry import EXPERIMENTS

    if show_list or name is None:
        known: list[Experiment] = [EXPERIMENTS.load(each) for each in EXPERIMENTS]
        width = max(map(len, EXPERIMENTS))
        for chapter in dict.fromkeys(each.chapter for each in known):
            say(f"{chapter}:")
            for each in known:
                if each.chapter == chapter:
                    say(f"  {each.name:{width}}  {each.summary}")
        return
    wanted: Experiment = EXPERIMENTS.load(name)
    from tinylm.cli.console import TerminalConsole
    from tinylm.config import as_options
    from tinylm.experiments.context import run_experiment, writing
    from tinylm.experiments.document.alone import build_alone
    from tinylm.experiments.origins import refuse_without_effect
    from tinylm.locks import locked

    console = TerminalConsole()
    folder = _folder(wanted, run)
    refuse_without_effect([name], override, f"the result of {name}")
    with writing(folder, console):
        context = _context(wanted, folder, console, override)
        run_experiment(name, context, again)
        words = ["tinylm", "experiment", name, "--run", folder.as_posix()]
        command = shlex.join([*words, *as_options(override)])
        # Which `tinylm attention` writes to as well.
        with locked(context.figures, console.warn, wait=True), console.task("Writing the pages"):
            paths = build_alone(context.folder, name, context.config, [command])
    for path in (context.results / f"{name}.json", *paths.values()):
        say(str(path))


def _folder(wanted: Experiment, run: Path | None) -> Path:
    """Return the folder of the run that an experiment works on, or that it goes to."""
    from tinylm.errors import ConfigError
    from tinylm.experiments.context import refuse_no_run, run_of
    from tinylm.names import checked_path

    if not wanted.needs_run:
        return checked_path(run or Path("runs") / wanted.name, "--run")
    if run is None:
        raise ConfigError(f"tinylm experiment {wanted.name}: say with --run which run it works on")
    folder = run_of(run) or run
    refuse_no_run(folder)
    return folder


def _context(wanted: Experiment, folder: Path, console: Console, overrides: list[str]) -> Context:
    from tinylm.config import load_config
    from tinylm.experiments.context import create_run, open_run

    if wanted.needs_run or (folder / "config.yaml").exists():
        return open_run(folder, console, overrides)
    return create_run(folder, load_config(overrides=overrides), console, "--run")
