"""``tinylm experiment``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import Overrides
from tinylm.cli.output import say


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
        for known, place in EXPERIMENTS.items():
            module = place.partition(":")[0]
            say(f"{known:{width}}  {_first_line(module)}")
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


def _first_line(module: str) -> str:
    import ast
    from importlib.util import find_spec

    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    # Read, not imported: listing must not load torch.
    doc = ast.get_docstring(ast.parse(Path(spec.origin).read_text("utf-8"))) or ""
    return doc.partition("\n")[0]
