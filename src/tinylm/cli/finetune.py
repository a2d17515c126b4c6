"""``tinylm finetune``."""

from __future__ import annotations

from typing import Annotated

import typer

from tinylm.cli.options import Data, RunFolder, method_option, text_overrides
from tinylm.cli.output import say
from tinylm.registry import METHODS

_CLASSIFY = "sequence-classification"


def finetune(
    run: RunFolder,
    method: Annotated[
        str, typer.Option(help=f"{', '.join(METHODS)}, full or {_CLASSIFY}.")
    ] = "lora",
    data: Data = None,
    option: Annotated[
        list[str],
        method_option(
            "Of the method, such as rank=8, or how --data is read: data.text_format=file."
        ),
    ] = [],  # noqa: B006
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="It becomes RUN/adapters/NAME.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps; empty: one epoch.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Empty: the method's own.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Empty: the run's.")] = None,
    context_length: Annotated[
        int | None, typer.Option(min=1, help="Longer than the model's extends it.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the adapter, dropout and data.")] = 0,
) -> None:
    """Adapt a run's model to other text; interrupted, the same command goes on."""
    from tinylm.cli.adapters import Chosen

    chosen = Chosen(name, steps, learning_rate, batch_size, context_length, seed)
    if method == _CLASSIFY:
        from tinylm.cli.classification import finetune_classifier

        finetune_classifier(run, data, option, chosen)
        return
    from tinylm.cli.console import TerminalConsole
    from tinylm.config import load_config, method_settings, with_absolute_paths
    from tinylm.errors import ConfigError, nearest, shown
    from tinylm.experiments.adapting import FULL, RATES, Recipe, adapt, refuse_recipe
    from tinylm.experiments.context import open_run
    from tinylm.experiments.preparation import encoded_split
    from tinylm.experiments.training.measure import describe_split
    from tinylm.language_model import LanguageModel
    from tinylm.locks import locked
    from tinylm.perplexity import perplexity, perplexity_text

    if method not in (FULL, *METHODS):
        raise ConfigError(
            f"unknown method {shown(method)}{nearest(method, [FULL, *METHODS, _CLASSIFY])}"
        )
    console = TerminalConsole()
    context = open_run(run, console)
    of_text, own = text_overrides(data, option)
    if method == FULL and own:
        raise ConfigError("-o sets what a method of few parameters has: leave it out with full")
    settings = None if method == FULL else method_settings(METHODS, method, own)
    source = with_absolute_paths(load_config(run / "config.yaml", overrides=of_text)).data
    training = chosen.training(context.config.training, RATES[method], {"epochs": 1})
    lm = LanguageModel.load(run)
    total = lm.model.parameter_counts()["total"]
    trained = total if settings is None else METHODS.load(method).num_trained(lm.model, settings)
    length = context_length or lm.model.config.context_length
    recipe = Recipe(method, settings, training, source, length)
    refuse_recipe(lm.model, recipe)
    folder = chosen.folder(run, method)
    commands = chosen.commands(run, method, data, option, training.learning_rate)
    with locked(folder, console.warn):
        console.note(f"{method}: {trained:,} numbers are trained, the model has {total:,}")
        train, held_out = (
            encoded_split(source, lm.tokenizer, split, console) for split in ("train", "validation")
        )
        for split in (train, held_out):
            console.note(describe_split(split))
        result = adapt(lm, train, held_out, recipe, folder, console, commands)
    size = f", {result.num_bytes / 2**20:.2f} MiB" if result.num_bytes else ""
    console.note(
        f"{folder}: {result.trained:,} parameters{size}, {result.steps:,} steps, validation "
        f"perplexity {perplexity_text(perplexity(result.loss_before))} before, "
        f"{perplexity_text(perplexity(result.loss_after))} after"
    )
    say(str(folder))
