"""The hyperparameter experiment: short trainings that differ from the run in one setting.

The run's own settings are trained several times with other random numbers. How far those results
lie apart is the measure of every difference: depth, number of heads and learning rate are changed
one at a time, for as many steps on as many tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tinylm import folders
from tinylm.config import RunConfig
from tinylm.experiments import trials
from tinylm.experiments.context import Context
from tinylm.experiments.hyperparameters.settings import HyperparametersExperiment
from tinylm.experiments.preparation import vectors_seed
from tinylm.experiments.trials import Remedy, train_trial
from tinylm.planning.limits import refuse_step
from tinylm.training.commands import lower

_FOLDER = "hyperparameters"


def run(context: Context) -> dict[str, Any]:
    """Train with the run's settings and with each change of them.

    Each is a run of its own below ``RUN/hyperparameters``, so that a training that was interrupted
    goes on where it stopped; they are deleted once all are measured.

    Returns:
        ``repeats`` (validation losses of the run's own settings, by seed), ``own`` (the first of
        them) and ``changes``: rows of ``varied``, ``value``, ``parameters``, ``validation_loss``
        in nats per token, and ``seconds``.

    Raises:
        StoppedBySignalError: if a signal stopped one of them; its state is saved.
        TrainingError: if one diverged.
    """
    settings: HyperparametersExperiment = context.config.experiments.hyperparameters
    config = short(context.config)
    first = config.training.seed
    # One training of word vectors serves all: what is compared comes after it.
    config = replace(config, vectors=replace(config.vectors, seed=vectors_seed(config)))
    for _, _, other in variants(config):  # before the first of them is trained
        change = "experiments.hyperparameters.num_layers or num_heads"
        refuse_step(other.model, other.training, change=change)
    repeats = []
    for seed in range(first, first + settings.seeds):
        training = replace(config.training, seed=seed)
        row = _trained(context, replace(config, training=training), "seed", seed)
        repeats.append(row)
    changes = [_trained(context, other, varied, value)
               for varied, value, other in variants(config)]  # fmt: skip
    folders.remove(context.folder / _FOLDER)
    return {
        "steps": config.training.max_steps,
        "tokens": repeats[0].pop("tokens"),
        "validation_windows": config.training.validation_windows,
        "own": {
            **{key: repeats[0][key] for key in ("parameters", "validation_loss", "seconds")},
            "num_layers": config.model.num_layers,
            "num_heads": config.model.num_heads,
            "learning_rate": config.training.learning_rate,
        },
        "repeats": [row["validation_loss"] for row in repeats],
        "changes": [{key: row[key] for key in row if key != "tokens"} for row in changes],
    }


def short(config: RunConfig) -> RunConfig:
    """Return the configuration of the trainings, whose schedule ends with their steps."""
    settings: HyperparametersExperiment = config.experiments.hyperparameters
    training = trials.short(config.training, settings.steps, settings.validation_windows)
    return replace(config, training=training)


def variants(config: RunConfig) -> Iterator[tuple[str, int | float, RunConfig]]:
    """Yield every change: the setting, its value, and the configuration with it.

    The head size is the hidden size divided by the number of heads, so that attention has as many
    parameters.
    """
    settings, model, training = config.experiments.hyperparameters, config.model, config.training
    for layers in settings.num_layers:
        if layers != model.num_layers:
            yield "num_layers", layers, replace(config, model=replace(model, num_layers=layers))
    for heads in settings.num_heads:
        if heads != model.num_heads:
            other = replace(model, num_heads=heads, head_dim=None)
            yield "num_heads", heads, replace(config, model=other)
    for factor in settings.learning_rate_factors:
        rate = factor * training.learning_rate
        if factor != 1:
            changed = replace(training, learning_rate=rate)
            yield "learning_rate", rate, replace(config, training=changed)


def _trained(
    context: Context, config: RunConfig, varied: str, value: int | float
) -> dict[str, Any]:
    context.console.note(f"Training with {varied} {value:g} ({config.training.max_steps:,} steps)")
    remedy = _remedy(context.config, varied, value)
    result = train_trial(context, config, _FOLDER, f"{varied}-{value:g}", remedy)
    return {
        "varied": varied,
        "value": value,
        "parameters": result["parameters"]["total"],
        "validation_loss": result["validations"][-1]["loss"],
        "seconds": result["seconds_training"],
        "tokens": result["tokens_seen"],
    }


def _remedy(config: RunConfig, varied: str, value: int | float) -> Remedy:
    """Return how the experiment is run without a training that diverges."""
    settings, rate = config.experiments.hyperparameters, config.training.learning_rate
    if varied == "seed":
        return Remedy("run all at a lower rate", f"training.learning_rate={lower(rate)}")
    if varied == "learning_rate":
        name, own = "learning_rate_factors", 1.0
        kept = [factor for factor in settings.learning_rate_factors if factor * rate != value]
    else:
        name, own = varied, getattr(config.model, varied)
        kept = [size for size in getattr(settings, varied) if size != value]
    return Remedy(
        f"leave {varied} {value:g} out",
        f"experiments.hyperparameters.{name}={json.dumps(kept or [own])}",
    )
