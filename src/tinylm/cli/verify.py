"""``tinylm verify``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from tinylm.cli.options import Overrides, RunFolder
from tinylm.cli.output import say_json


def verify(
    run: RunFolder,
    override: Overrides = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a run's model and data: each fast path beside its plain version."""
    from tinylm.cli.console import TerminalConsole
    from tinylm.experiments.context import open_run, run_or_measure
    from tinylm.experiments.origins import refuse_without_effect

    context = open_run(run, TerminalConsole(), override)
    refuse_without_effect(["verification"], override, "what is verified")
    # Always measured anew: the code may have changed since, which the result does not record.
    result = run_or_measure("verification", context, again=True)
    if as_json:
        say_json(result)
    else:
        _print_table(result, run)
    if result["failed"]:
        raise typer.Exit(1)


def _print_table(result: dict[str, Any], run: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    from tinylm.cli.console import Terminal

    terminal = Terminal()
    terminal.width = min(terminal.width, 100)
    table = Table(title="Fast paths beside their plain versions", show_lines=True)
    # Name and text share a column, which then is wide enough on a terminal of 80 columns.
    table.add_column("check: what was compared")
    table.add_column("cases", justify="right", no_wrap=True)
    table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("bound", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in result["rows"]:
        note = f"\n({row['note']})" if row["note"] and not row["passed"] else ""
        table.add_row(
            Text.assemble((row["name"], "bold"), f": {row['compared']}{note}"),
            f"{row['cases']:,}",
            "none" if row["difference"] is None else f"{row['difference']:.2g}",
            f"{row['bound']:g}",
            Text("pass", "green") if row["passed"] else Text("FAIL", "red"),
        )
    terminal.print(table)
    seconds = sum(row["seconds"] for row in result["rows"])
    terminal.print(f"{result['passed']} of {len(result['rows'])} checks passed in {seconds:.1f} s")
    if result["failed"]:
        terminal.print(
            f"failed: {', '.join(result['failed'])}; do not trust what this run's model says or "
            "how it was trained where these paths are used: mend them (or install a tinylm that "
            f"passes), then run `{shlex.join(['tinylm', 'verify', str(run)])}` again",
            soft_wrap=True,
        )
