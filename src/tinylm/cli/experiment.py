"""``tinylm experiment``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinylm.cli.options import Overrides
from tinylm.cli.output import say

if TYPE_CHECKING:
    from tinylm.experiments.experiment import Experiment


def experiment(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="See --list.")] = None,
    run: Annotated[Path | None, typer.Option(metavar="RUN", help="The run it works on.")] = None,
    override: Overrides = [],  # noqa: B006
    again: Annotated[bool, typer.Option(help="Run it even if its result is there.")] = False,
    show_list: Annotated[bool, typer.Option("--list", help="List the experiments.")] = False,
) -> None:
    """Run one experiment on a run; its result is RUN/results/NAME.json."""
    from tinylm.errors import ConfigError
    from tinylm.registry import EXPERIMENTS

    if show_list or name is None:
        width = max(map(len, EXPERIMENTS))
        known: list[Experiment] = [EXPERIMENTS.load(each) for each in EXPERIMENTS]
        for chapter in dict.fromkeys(each.chapter for each in known):
            say(f"{chapter}:")
            for each in known:
                if each.chapter == chapter:
                    say(f"  {each.name:{width}}  {each.summary}")
        return
    EXPERIMENTS.check(name)
    if run is None:
        raise ConfigError(f"experiment {name}: say with --run which run it works on")
    from tinylm.cli.console import TerminalConsole
    from tinylm.experiments.context import open_run, run_experiment
    from tinylm.experiments.origins import refuse_without_effect

    context = open_run(run, TerminalConsole(), override)
    refuse_without_effect([name], override, f"the result of {name}")
    run_experiment(name, context, again)
    say(str(context.results / f"{name}.json"))
