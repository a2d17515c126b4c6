"""``tinylm lab``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinylm.cli.options import Overrides, Run
from tinylm.cli.output import say

if TYPE_CHECKING:
    from tinylm.experiments.context import Context

Again = Annotated[bool, typer.Option("--again", help="Run it even if its result is there.")]

app = typer.Typer(help="Show one idea on real numbers, and write a few pages about it.")


@app.command("svd")
def svd(
    run: Run,
    override: Overrides = [],  # noqa: B006
    again: Again = False,
) -> None:
    """Low-rank factorisation: trained weights, and what fine-tuning changes in them."""
    from tinylm.cli.console import TerminalConsole
    from tinylm.experiments.context import open_run, refuse_no_run, run_experiment, run_of, writing
    from tinylm.experiments.origins import refuse_without_effect

    console = TerminalConsole()
    folder = run_of(run) or run
    refuse_no_run(folder)
    refuse_without_effect(["lab-svd"], override, "the lab")
    with writing(folder, console):
        context = open_run(folder, console, override)
        run_experiment("lab-svd", context, again)
        _write_pages(context, "lab-svd", ["tinylm", "lab", "svd", run.as_posix()], override)


@app.command("mnist")
def mnist(
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="MNIST's IDX files; empty: scikit-learn's digits."),
    ] = None,
    download: Annotated[
        bool,
        typer.Option(
            "--download", help="Fetch MNIST into that folder (runs/.cache/mnist), and use it."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where result, figures and pages go; empty: runs/lab-mnist with --data, "
            "runs/lab-digits without.",
        ),
    ] = None,
    override: Overrides = [],  # noqa: B006
    again: Again = False,
) -> None:
    """LoRA on a classifier of digits, for the classes that it is worst at."""
    import json

    from tinylm.cli.console import TerminalConsole
    from tinylm.config import load_config
    from tinylm.experiments.context import create_run, run_experiment, writing
    from tinylm.locks import locked
    from tinylm.names import checked_path

    console = TerminalConsole()
    words = ["tinylm", "lab", "mnist"]
    if download:
        from tinylm.data.images import SHA256, download_mnist

        data = data or Path("runs/.cache/mnist")
        with (
            locked(data, console.warn, wait=True),
            console.task("Fetching MNIST", float(len(SHA256))) as done,
        ):
            download_mnist(data, done)
        words.append("--download")
    if data is not None:
        words += ["--data", data.as_posix()]
        override = [f"experiments.lab_mnist.data={json.dumps(str(data))}", *override]
    if output is not None:
        words += ["--output", output.as_posix()]
    config = load_config(overrides=override)
    kind = "digits" if config.experiments.lab_mnist.data is None else "mnist"
    folder = checked_path(output or Path(f"runs/lab-{kind}"), "--output")
    with writing(folder, console):
        context = create_run(folder, config, console, "--output")
        run_experiment("lab-mnist", context, again)
        _write_pages(context, "lab-mnist", words, override[data is not None :])


def _write_pages(context: Context, name: str, words: list[str], overrides: list[str]) -> None:
    from tinylm.experiments.document.alone import build_alone
    from tinylm.locks import locked

    command = shlex.join([*words, *(part for one in overrides for part in ("-o", one))])
    # Which `tinylm attention` writes to as well.
    with (
        locked(context.figures, context.console.warn, wait=True),
        context.console.task("Writing the pages"),
    ):
        paths = build_alone(context.folder, name, context.config, [command])
    for path in paths.values():
        say(str(path))
