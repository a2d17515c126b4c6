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
        float | None, typer.Option(min=0, help="Of these steps; empty: 0.3 of the run's.")
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
    layers are really removed. Interrupted while it trains, `tinylm train --resume` goes on.
    """
    from tinylm.cli.console import TerminalConsole
    from tinylm.config import method_settings
    from tinylm.experiments.context import open_run
    from tinylm.experiments.pruned import Pruning, prune_into
    from tinylm.perplexity import perplexity, perplexity_text
    from tinylm.planning.limits import shown_bytes

    console = TerminalConsole()
    settings = method_settings(PRUNERS, method, option)
    context = open_run(run, console)
    asked = Pruning(method, share, settings, retrain_steps, learning_rate, gradual, rewind)
    written = prune_into(context, out, asked)
    before, after = written["before"], written["after"]
    console.note(
        f"{before['nonzero']:,} numbers that are not 0 before, {after['nonzero']:,} now; "
        f"model.safetensors {shown_bytes(before['bytes'])} before, {shown_bytes(after['bytes'])}"
    )
    losses = written["details"]["losses"]
    values = {when: perplexity_text(perplexity(loss)) for when, loss in losses.items()}
    trained = f", {values['after']} after {retrain_steps:,} steps" if retrain_steps else ""
    console.note(
        f"validation perplexity {values['before']} before, {values['pruned']} pruned{trained}"
    )
    say(str(out))
