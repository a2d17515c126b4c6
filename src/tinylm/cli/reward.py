"""``tinylm reward``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import RunFolder, method_option
from tinylm.cli.output import say
from tinylm.registry import METHODS, RULES


def reward(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The reward model: a new folder.")],
    preferences: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ranked responses, a JSON object a line."),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(help=f"Rank the run's own samples by it: {', '.join(RULES)}."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="The true reward behind --preferences, if it is known."),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD", help=f"Train an adapter, not the body: {', '.join(METHODS)}."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Empty: 200.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Empty: by what is trained.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rankings of a step; empty: 8.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    option: Annotated[
        list[str],
        method_option(
            "Such as loss=plackett-luce or body=frozen; of the rule, such as rule.words=[dog]; of "
            "the adapter, such as adapter.rank=8."
        ),
    ] = [],  # noqa: B006
) -> None:
    """Train a reward model on ranked responses; interrupted, the same command goes on."""
    from tinylm.cli.console import TerminalConsole
    from tinylm.cli.own_training import commands_of
    from tinylm.cli.rewarding import Given, asked_of, lines
    from tinylm.experiments.context import open_run
    from tinylm.experiments.rewarding import train_reward_model

    given = Given(
        run=run,
        out=out,
        preferences=preferences,
        rule=rule,
        judge=judge,
        adapter=adapter,
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        option=tuple(option),
    )
    console = TerminalConsole()
    context = open_run(run, console)
    asked = asked_of(given, context)
    commands = commands_of("reward", given, asked.training.learning_rate)
    about = train_reward_model(context, out, asked, commands)
    for line in lines(about):
        console.note(line)
    say(str(out))
