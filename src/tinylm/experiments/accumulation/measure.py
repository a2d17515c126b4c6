"""The accumulation experiment: optimizer steps of different numbers of mini-batches of one size.

The losses of two trainings are compared block by block of the same validation windows, at the end
and after as many steps as the training with the largest batch makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from tinylm import folders
from tinylm.config import RunConfig
from tinylm.data.windows import windows_of
from tinylm.experiments.accumulation.settings import AccumulationExperiment
from tinylm.experiments.context import Context, threads
from tinylm.experiments.preparation import prepare_data
from tinylm.experiments.step_costs import first_batches, step_memory
from tinylm.experiments.training.measure import block_targets, blocks_loss, more
from tinylm.experiments.trials import Remedy, train_trial
from tinylm.measurement import Measurement, Replicates
from tinylm.planning.limits import refuse_step
from tinylm.training.commands import lower
from tinylm.training.tracking import read_metrics

_FOLDER = "accumulation"
_MOST_VALIDATIONS = 32
"""A training that would make more to be measured after the common number of steps makes one."""


def run(context: Context) -> dict[str, Any]:
    """Train a model for every number of mini-batches per step, all on the same windows.

    Each is a run of its own below ``RUN/accumulation``, so that a training that was interrupted
    goes on where it stopped; they are deleted once all are measured.

    Returns:
        The settings, and ``runs``, a row each from the smallest batch to the largest: sizes, times,
        memory, the validation loss at the end and, in ``equal_steps``, that after ``step`` steps,
        which all of them make (None where it was not measured). ``beside`` says how much more its
        losses are, in nats: at the end than in the row ``previous`` and in the ``first`` one, and
        at ``equal_steps`` than in the first.

    Raises:
        ConfigError: if a batch needs more memory than there is.
        StoppedBySignalError: if a signal stopped one of them; its state is saved.
    """
    config = context.config
    settings: AccumulationExperiment = config.experiments.accumulation
    data = prepare_data(config, context.console)
    windows = windows_of(data.train, config.model)
    validation = windows_of(data.validation, config.model)
    subset = validation.fixed_subset(config.training.validation_windows)
    targets = block_targets(validation, subset)
    # What the training with the largest batch makes.
    common = min(_num_steps(config, steps, len(windows)) for steps in settings.steps)
    for steps in settings.steps:
        # Of which one is measured as a single batch.
        whole_step = replace(config.training, batch_size=steps * settings.batch_size)
        refuse_step(config.model, whole_step)
    rows, measured = [], []
    for steps in sorted(set(settings.steps)):
        trial = _config(config, steps, len(windows), common)
        context.console.note(
            f"Training with {steps} x {settings.batch_size} windows a step "
            f"({trial.training.max_steps:,} steps)"
        )
        remedy = Remedy(
            "run all at a lower rate",
            f"experiments.accumulation.learning_rate={lower(trial.training.learning_rate)}",
        )
        trained = train_trial(context, trial, _FOLDER, f"steps-{steps}", remedy)
        records = read_metrics(context.folder / _FOLDER / f"steps-{steps}")
        validations = {
            record["step"]: record for record in records if record["kind"] == "validation"
        }
        measured.append(
            {
                step: blocks_loss(record.get("block_losses"), targets)
                for step, record in validations.items()
            }
        )
        effective = steps * settings.batch_size
        with threads(config.training.threads):
            peak = step_memory(trial, first_batches(windows, settings.batch_size, steps)).peak_bytes
            whole = step_memory(trial, first_batches(windows, effective, 1)).peak_bytes
        # The first line holds what is done only once, such as making the optimizer's state.
        speeds = [record["tokens_per_second"] for record in trained["curve"]]
        speeds = speeds[1:] or speeds
        tokens = data.train.header.num_tokens - 1
        epoch = Measurement.of([tokens / speed for speed in speeds])
        last = trained["validations"][-1]
        rows.append(
            {
                "accumulation_steps": steps,
                "effective_batch": effective,
                "steps": trained["steps"],
                "tokens": trained["tokens_seen"],
                "epoch": epoch.as_result(),
                "tokens_per_second": tokens / epoch.median,
                "peak_bytes": peak,
                "whole_batch_peak_bytes": whole,
                "validation_loss": last["loss"],
                "validation_perplexity": last["perplexity"],
                "equal_steps": {
                    "step": common,
                    "validation_loss": validations.get(common, {}).get("loss"),
                },
                "curve": [
                    {key: record[key] for key in ("step", "tokens", "loss")}
                    for record in trained["curve"]
                ],
            }
        )
    for row, beside in zip(rows, _beside(measured, common), strict=True):
        row["beside"] = beside
    folders.remove(context.folder / _FOLDER)
    return {
        "batch_size": settings.batch_size,
        "context_length": config.model.context_length,
        "learning_rate": trial.training.learning_rate,
        "epochs": rows[0]["tokens"] / (data.train.header.num_tokens - 1),
        "windows": _num_windows(config, len(windows)),
        "precision": trained["precision"],
        "validation_windows": config.training.validation_windows,
        "runs": rows,
    }


def _beside(
    measured: Sequence[Mapping[int, Replicates | None]], common: int
) -> list[dict[str, list[float | None] | None]]:
    """Compare each training's losses, step -> loss, with those of the one before and the first."""
    ends = [losses[max(losses)] for losses in measured]
    early = [losses.get(common) for losses in measured]
    previous = [None, *(more(later, earlier) for earlier, later in pairwise(ends))]
    return [
        {
            "previous": before,
            "first": more(end, ends[0]),
            "equal_steps": more(at_equal_steps, early[0]),
        }
        for before, end, at_equal_steps in zip(previous, ends, early, strict=True)
    ]


def _num_windows(config: RunConfig, in_split: int) -> int:
    settings: AccumulationExperiment = config.experiments.accumulation
    return settings.windows or settings.epochs * in_split


def _num_steps(config: RunConfig, steps: int, in_split: int) -> int:
    settings: AccumulationExperiment = config.experiments.accumulation
    effective = steps * settings.batch_size
    return max(1, round(_num_windows(config, in_split) / effective))


def _config(config: RunConfig, steps: int, in_split: int, common: int) -> RunConfig:
    """Return the configuration of the training with ``steps`` mini-batches an optimizer step.

    It validates every ``common`` steps and at its end.
    """
    settings: AccumulationExperiment = config.experiments.accumulation
    max_steps = _num_steps(config, steps, in_split)
    most = max(settings.steps)
    training = replace(
        config.training,
        batch_size=settings.batch_size,
        accumulation_steps=steps,
        max_steps=max_steps,
        learning_rate=settings.learning_rate or config.training.learning_rate,
        # A schedule counts steps, of which each training has another number.
        schedule="constant",
        warmup_steps=0,
        log_interval=max(1, most // steps),  # a line for the same number of tokens
        validation_interval=common if max_steps <= _MOST_VALIDATIONS * common else max_steps,
        early_stop_patience=0,
        keep_checkpoints=1,
        snapshots=0,
        tensorboard=False,
        wandb=False,
    )
    return replace(config, training=training)
