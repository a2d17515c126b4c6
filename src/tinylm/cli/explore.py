"""``tinylm explore``."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import RunFolder
from tinylm.cli.output import say


def explore(
    run: RunFolder,
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="Sentences to add to those of the corpus."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Pairs of prompts to ask; empty: the story grammar's."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page; empty: in the run.")
    ] = None,
) -> None:
    """Make a page to look inside a model, with a slider over the snapshots of its training.

    It shows attention, logit lens, attribution, scores of heads and samples, and by pairs of
    prompts which parts carry an answer. Snapshots are kept by runs that are trained with
    -o training.snapshots=N.
    """
    from tinylm.atomic import write_text
    from tinylm.cli.console import TerminalConsole
    from tinylm.experiments.context import open_run, writing
    from tinylm.experiments.exploring.measure import explored
    from tinylm.experiments.exploring.page import explore_html
    from tinylm.names import checked_file
    from tinylm.planning.limits import shown_bytes

    console = TerminalConsole()
    context = open_run(run, console)
    path = run / "explore.html" if output is None else checked_file(output, "--out")
    # What is written into the run is told to be impossible before anything is measured.
    with writing(run, console) if output is None else nullcontext():
        result = explored(context, texts or (), pairs)
        page = explore_html(result, str(run), _command(run, output, pairs, texts))
        write_text(path, page)
    moments = len(result["moments"])
    if moments == 1:
        console.warn(
            f"{run} has no snapshots: the page shows its best checkpoint alone; train with "
            "-o training.snapshots=12 for a slider over its training"
        )
    console.note(
        f"{moments} steps, {len(result['sentences'])} sentences, {shown_bytes(len(page.encode()))}"
    )
    say(str(path))


def _command(run: Path, output: Path | None, pairs: Path | None, texts: list[str] | None) -> str:
    """Return the command that makes the page, to which one more sentence can be added."""
    options = [] if output is None else ["--out", str(output)]
    options += [] if pairs is None else ["--pairs", str(pairs)]
    return shlex.join(["tinylm", "explore", *options, str(run), *(texts or ())])
