"""``tinylm instruct``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import RunFolder
from tinylm.cli.output import say


def instruct(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The tuned run: a new folder.")],
    tasks: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Instructions with outputs, a JSON object a line. Empty: such as the story "
            "grammar makes.",
        ),
    ] = None,
    number: Annotated[
        int | None, typer.Option(min=1, help="Tasks that the story grammar makes: 8,000.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Empty: one epoch, of a file three.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Empty: half of the run's.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Empty: 16.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
) -> None:
    """Tune a run's model to follow instructions; interrupted, the same command goes on."""
    from types import SimpleNamespace

    from tinylm.alignment.self_instruct.records import read_tasks
    from tinylm.cli.console import TerminalConsole
    from tinylm.cli.own_training import commands_of
    from tinylm.errors import ConfigError
    from tinylm.experiments import instructing
    from tinylm.experiments.context import open_run
    from tinylm.language_model import LanguageModel

    if tasks is not None and number is not None:
        raise ConfigError("--number is about tasks of the story grammar: leave it out, or --tasks")
    console = TerminalConsole()
    context = open_run(run, console)
    lm = LanguageModel.load(run)
    examples = instructing.read_examples(
        lm,
        None if tasks is None else read_tasks(tasks),
        str(tasks),
        instructing.NUMBER if number is None else number,
        seed,
    )
    epochs = 1 if tasks is None else instructing.EPOCHS
    training = instructing.training_of(
        context, examples, steps, learning_rate, batch_size, seed, epochs
    )

    given = SimpleNamespace(
        run=run,
        out=out,
        tasks=tasks,
        number=number,
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        option=(),
    )
    commands = commands_of("instruct", given, training.learning_rate)
    written = instructing.instruct(context, out, examples, training, commands)
    details = written["details"]
    console.note(
        f"{out}: best of {details['steps']:,} steps is step {details['best_step']:,}, "
        f"{details['held_out_loss']:.3f} nats a token of responses held out; "
        f"{len(details['new_words'])} new words"
    )
    say(str(out))
