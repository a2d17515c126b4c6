"""``tinylm align``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import RunFolder, method_option
from tinylm.cli.output import say
from tinylm.registry import ALIGNMENTS, METHODS, RULES


def align(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The aligned run: a new folder.")],
    method: Annotated[str, typer.Option(help=f"{', '.join(ALIGNMENTS)}.")] = "dpo",
    rewards: Annotated[
        str | None,
        typer.Option(metavar="REWARD", help=f"What is good: {', '.join(RULES)}."),
    ] = None,
    preferences: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ranked responses, a JSON object a line."),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help=f"Train an adapter alone: {', '.join(METHODS)}."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="Measured beside the rewards, and not learned from."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Empty: the method's own.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Empty: the method's own.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Empty: the method's own.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    option: Annotated[
        list[str],
        method_option(
            "Of the method, such as beta=0.1, of the rule, such as rewards.words=[dog], or of the "
            "adapter, such as adapter.rank=8."
        ),
    ] = [],  # noqa: B006
) -> None:
    """Align a run's model with preferences or rewards; interrupted, the same command goes on."""
    from tinylm.cli.aligning import Given, asked_of
    from tinylm.cli.console import TerminalConsole, named_numbers
    from tinylm.cli.own_training import commands_of
    from tinylm.experiments.aligning import align as align_run
    from tinylm.experiments.context import open_run

    given = Given(
        run=run,
        out=out,
        method=method,
        rewards=rewards,
        preferences=preferences,
        adapter=adapter,
        judge=judge,
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        option=tuple(option),
    )
    console = TerminalConsole()
    context = open_run(run, console)
    asked = asked_of(given, context)
    commands = commands_of("align", given, asked.training.learning_rate)
    written = align_run(context, out, asked, commands)
    details = written["details"]
    console.note(f"best of {details['steps']:,} steps is step {details['best_step']:,}")
    for when in ("before", "after"):
        console.note(f"{when}: {named_numbers(details[when])}")
    say(str(out))
