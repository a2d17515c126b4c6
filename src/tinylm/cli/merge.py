"""``tinylm merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import Rank, Run
from tinylm.cli.output import say


def merge(
    run: Run,
    adapter: Annotated[
        str, typer.Argument(metavar="ADAPTER", help="A name below RUN/adapters, or a folder.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The merged run: a new folder.")],
    rank: Rank = None,
) -> None:
    """Move an adapter into the weights for good and write the run that it becomes."""
    from tinylm.cli.adapters import folder_of
    from tinylm.cli.console import TerminalConsole
    from tinylm.experiments.compressing import new_run
    from tinylm.experiments.context import open_run, run_of
    from tinylm.experiments.merging import merge_run
    from tinylm.language_model import LanguageModel
    from tinylm.planning.limits import shown_bytes

    console = TerminalConsole()
    context = open_run(run_of(run) or run, console)
    with new_run(out, console):
        folder = folder_of(run, adapter, "adapter", "*")
        written = merge_run(context, out, LanguageModel.load(run), folder, rank)
    before, after = written["before"], written["after"]
    console.note(
        f"{before['nonzero']:,} numbers that are not 0 before, {after['nonzero']:,} now; "
        f"model.safetensors {shown_bytes(before['bytes'])} before, {shown_bytes(after['bytes'])}"
    )
    say(str(out))
