"""``tinylm attention``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tinylm.cli.options import Adapter, Data, Rank, Run
from tinylm.cli.output import say


def attention(
    run: Run,
    sentences: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SENTENCE]...", help="Drawn; empty: three of the validation stories."
        ),
    ] = None,
    data: Data = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where the figures go; empty: below the run, or the adapter."
        ),
    ] = None,
    adapter: Adapter = None,
    rank: Rank = None,
) -> None:
    """Say what each attention head does and is worth, and draw it."""
    from tinylm.cli.adapters import folder_of, loaded
    from tinylm.cli.console import TerminalConsole
    from tinylm.cli.options import data_overrides
    from tinylm.config import load_config
    from tinylm.errors import ConfigError
    from tinylm.experiments.attention.drawing import draw_attention
    from tinylm.experiments.attention.measure import attention as measured
    from tinylm.experiments.context import run_of
    from tinylm.locks import locked
    from tinylm.model.base import refuse_without_attention
    from tinylm.names import checked_path

    lm = loaded(run, adapter, rank)
    refuse_without_attention(lm.model.config, "the command attention")
    own = run_of(run)
    if own is None and data is None:
        raise ConfigError(
            f"{run} belongs to no run: say with --data on which stories its heads are measured"
        )
    file = None if own is None else own / "config.yaml"
    console = TerminalConsole()
    config = load_config(file, overrides=data_overrides(data))
    result = measured(lm, config, console, sentences or ())
    # The figures of the run are those of its own model.
    beside = own if adapter is None else folder_of(run, adapter, "adapter", "*")
    folder = output or (Path("figures") if beside is None else beside / "figures")
    with (
        locked(checked_path(folder, "--output"), console.warn),
        console.task("Drawing attention", 1.0) as done,
    ):
        files = draw_attention(result, folder, done)
    _print_heads(result)
    for path in files:
        say(str(path))


def _print_heads(result: dict[str, Any]) -> None:
    from rich.table import Table

    from tinylm.cli.console import Terminal
    from tinylm.report.formatting import head_name

    terminal = Terminal()
    table = Table(
        title=f"What each head does, measured on {result['stories']:,} validation stories",
        show_lines=True,
    )
    for column in ("head", "role", "in words"):
        table.add_column(column)
    for head in result["heads"]:
        second = "" if head["second"] is None else f", {head['second']}"
        table.add_row(
            head_name(head["layer"], head["head"]),
            f"{head['role']}{second}",
            f"{head['interpretation']} {head['worth_told']}",
        )
    terminal.print(table)
