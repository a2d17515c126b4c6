"""``tinylm prune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import RunFolder, method_option
from tinylm.cli.output import say
from tinylm.registry import PRUNERS


def prune(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The pruned run: a new folder.")],
    method: Annotated[str, typer.Option(help=f"{', '.join(PRUNERS)}.")] = "magnitude",
    share: Annotated[
        float | None, typer.Option(help="Of the weights, heads, … that go: 0.5 is half.")
    ] = None,
    retrain_steps: Annotated[
        int, typer.Option(min=0, help="Optimizer steps on the run's text afterwards.")
    ] = 0,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Of these steps; empty: the run's.")
    ] = None,
    gradual: Annotated[
        bool, typer.Option("--gradual", help="Raise the share of masked weights while training.")
    ] = False,
    rewind: Annotated[
        int | None,
        typer.Option(metavar="STEP", help="Train from the weights of an early snapshot."),
    ] = None,
    option: Annotated[
        list[str],
        method_option("Of the method, such as pattern=2:4 or count=2."),
    ] = [],  # noqa: B006
) -> None:
    """Take weights, heads, neurons or layers out of a run's model and write a smaller run.

    magnitude, random, wanda and taylor hold weights at 0, which saves no time. heads, neurons and
    layers are really removed.
    """
    from tinylm.cli.console import TerminalConsole
    from tinylm.config import method_settings
    from tinylm.experiments.compressing import new_run, write_compressed
    from tinylm.experiments.context import open_run
    from tinylm.experiments.pruned import Pruning, prune_run, refuse_pruning
    from tinylm.language_model import LanguageModel
    from tinylm.perplexity import perplexity, perplexity_text
    from tinylm.planning.limits import shown_bytes

    console = TerminalConsole()
    settings = method_settings(PRUNERS, method, option)
    context = open_run(run, console)
    asked = Pruning(method, share, settings, retrain_steps, learning_rate, gradual, rewind)
    refuse_pruning(context, asked)
    with new_run(out, console):
        made = prune_run(context, LanguageModel.load(run), asked)
        written = write_compressed(out, context, made.lm, made.record)
    before, after = written["before"], written["after"]
    console.note(
        f"{before['nonzero']:,} numbers that are not 0 before, {after['nonzero']:,} now; "
        f"model.safetensors {shown_bytes(before['bytes'])} before, {shown_bytes(after['bytes'])}"
    )
    values = [perplexity_text(perplexity(loss)) for loss in vars(made.losses).values()]
    trained = f", {values[2]} after {retrain_steps:,} steps" if retrain_steps else ""
    console.note(f"validation perplexity {values[0]} before, {values[1]} pruned{trained}")
    say(str(out))
