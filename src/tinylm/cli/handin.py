"""``tinylm handin``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.output import say


def handin(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, with its report.")],
    entry: Annotated[
        str, typer.Option(metavar="NAME", help="What the zip and the folder in it are called.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The zip; empty: NAME.zip in the current folder."),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where the trained model can be downloaded."),
    ] = None,
) -> None:
    """Pack a zip to hand in: code, a README of the commands, report, results, checkpoint's link."""
    from tinylm.cli.console import TerminalConsole
    from tinylm.handin import hand_in

    written = hand_in(run, entry, out, checkpoint)
    console = TerminalConsole()
    console.note(
        f"{written.path}: {written.num_files:,} files, {written.num_bytes / 2**20:.2f} MiB"
    )
    if checkpoint is None:
        console.note(
            f"the checkpoint is not in it: upload {written.checkpoint}, and give its address with "
            "--checkpoint, or fill it in in README.md"
        )
    say(str(written.path))
