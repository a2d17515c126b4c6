"""``tinylm self-instruct``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import RunFolder, method_option
from tinylm.cli.output import say


def self_instruct(
    run: RunFolder,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="What every step leaves, and the run: a new one.")
    ],
    seeds: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Seed tasks, a JSON object a line. Empty: tasks about stories."
        ),
    ] = None,
    number: Annotated[int, typer.Option(min=1, help="New instructions to keep.")] = 100,
    writer: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Who writes in place of RUN: a run tuned to do so."),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Who writes in place of RUN: a server of OpenAI's interface, such as "
            "http://localhost:8000/v1.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The endpoint's model.")] = None,
    key_variable: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Variable of the environment that holds the endpoint's key."
        ),
    ] = None,
    completions: Annotated[
        bool, typer.Option(help="Ask the endpoint to complete texts, not to chat.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of the tuning. Empty: three epochs.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Of the tuning. Empty: an eighth of the run's.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    option: Annotated[
        list[str], method_option("Of the steps and filters, such as most_similar=0.6.")
    ] = [],  # noqa: B006
) -> None:
    """Tune RUN on instructions that a model writes; interrupted, the same command goes on."""
    from tinylm.cli.console import TerminalConsole
    from tinylm.cli.self_instructing import Given, self_instruct_run

    given = Given(
        run=run,
        out=out,
        seeds=seeds,
        number=number,
        writer=writer,
        endpoint=endpoint,
        model=model,
        key_variable=key_variable,
        completions=completions or None,
        steps=steps,
        learning_rate=learning_rate,
        seed=seed,
        option=tuple(option),
    )
    for line in self_instruct_run(given, TerminalConsole()):
        say(line)
