"""``tinylm finetune``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import Data, data_overrides
from tinylm.registry import METHODS

_CLASSIFY = "sequence-classification"


def finetune(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    method: Annotated[
        str, typer.Option(help=f"{', '.join(METHODS)}, full or {_CLASSIFY}.")
    ] = "lora",
    data: Data = None,
    option: Annotated[
        list[str],
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="Of the method, such as rank=8."),
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
    if method == _CLASSIFY:
        from tinylm.cli.classification import finetune_classifier

        finetune_classifier(
            run, data, option, name, steps, learning_rate, batch_size, context_length, seed
        )
        return
    from tinylm.cli.console import TerminalConsole
    from tinylm.config import TrainingConfig, from_dict, from_overrides, load_config, to_dict
    from tinylm.errors import ConfigError, nearest
    from tinylm.experiments.adapting import FULL, RATES, Recipe, adapt, perplexity
    from tinylm.experiments.context import open_run
    from tinylm.experiments.preparation import encoded_split
    from tinylm.language_model import LanguageModel
    from tinylm.training.precision import resolve_device, resolve_precision

    if method not in (FULL, *METHODS):
        raise ConfigError(
            f"unknown method {method!r}{nearest(method, [FULL, *METHODS, _CLASSIFY])}"
        )
    console = TerminalConsole()
    context = open_run(run, console)
    if method == FULL and option:
        raise ConfigError("-o sets what a method of few parameters has: leave it out with full")
    settings = None if method == FULL else from_overrides(METHODS.load(method).Settings, option)
    source = load_config(run / "config.yaml", overrides=data_overrides(data)).data
    own = context.config.training
    precision = resolve_precision(own.precision, resolve_device(own.device))
    changed = {
        "precision": precision,
        "learning_rate": RATES[method] if learning_rate is None else learning_rate,
        "batch_size": batch_size or own.batch_size,
        "seed": seed,
        "epochs": 1,
        "max_steps": steps,
        "validation_interval": 0,
        "tensorboard": False,
        "wandb": False,
    }
    training = from_dict(TrainingConfig, to_dict(own) | changed, "options")
    lm = LanguageModel.load(run)
    length = context_length or lm.model.config.context_length
    recipe = Recipe(method, settings, training, source, length)
    folder = run / "adapters" / (name or method)
    splits = [encoded_split(source, lm.tokenizer, s, console) for s in ("train", "validation")]
    for header in (split.header for split in splits):
        console.note(
            f"{header.split}: {header.num_stories:,} stories, {header.num_tokens:,} tokens, "
            f"<unk> {100 * header.unknown_rate:.2f} %"
        )
    again = ["tinylm", "finetune", str(run), "--method", method]
    again += [*(["--data", data] if data else []), *(part for o in option for part in ("-o", o))]
    given = {"--name": name, "--steps": steps, "--learning-rate": learning_rate}
    given |= {
        "--batch-size": batch_size,
        "--context-length": context_length,
        "--seed": seed or None,
    }
    again += [part for key, value in given.items() if value for part in (key, str(value))]
    found = adapt(lm, splits[0], splits[1], recipe, folder, console, shlex.join(again))
    size = f", {found.num_bytes / 2**20:.2f} MiB" if found.num_bytes else ""
    console.note(
        f"{folder}: {found.trained:,} parameters{size}, {found.steps:,} steps, validation "
        f"perplexity {perplexity(found.loss_before):.2f} before, "
        f"{perplexity(found.loss_after):.2f} after"
    )
    typer.echo(str(folder))
