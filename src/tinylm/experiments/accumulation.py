"""The accumulation experiment: one mini-batch size, more and more of them to an optimizer step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tinylm import folders
from tinylm.config import RunConfig
from tinylm.data.windows import TokenWindows
from tinylm.experiments.context import Context, threads
from tinylm.experiments.preparation import prepare_data
from tinylm.experiments.step_costs import first_batches, step_memory
from tinylm.experiments.trials import train_trial
from tinylm.measurement import Measurement

_FOLDER = "accumulation"


def run(context: Context) -> dict[str, Any]:
    """Train a model for every number of mini-batches a step, all on the same windows.

    Each is a run of its own below ``RUN/accumulation``, so that a training that was interrupted
    goes on where it stopped; they are deleted once all are measured.

    Raises:
        StoppedBySignalError: if a signal stopped one of them; its state is saved.
    """
    config = context.config
    settings = config.experiments.accumulation
    data = prepare_data(config, context.console)
    windows = TokenWindows(data.train, config.model.context_length)
    rows = []
    for steps in settings.steps:
        one = _config(config, steps, len(windows))
        context.console.note(
            f"Training with {steps} x {settings.batch_size} windows a step "
            f"({one.training.max_steps:,} steps)"
        )
        trained = train_trial(context, one, _FOLDER, f"steps-{steps}")
        effective = steps * settings.batch_size
        with threads(config.training.threads):
            peak = step_memory(one, first_batches(windows, settings.batch_size, steps)).peak_bytes
            whole = step_memory(one, first_batches(windows, effective, 1)).peak_bytes
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
                "curve": [
                    {key: record[key] for key in ("step", "tokens", "loss")}
                    for record in trained["curve"]
                ],
            }
        )
    folders.remove(context.folder / _FOLDER)
    return {
        "batch_size": settings.batch_size,
        "context_length": config.model.context_length,
        "learning_rate": one.training.learning_rate,
        "epochs": rows[0]["tokens"] / (data.train.header.num_tokens - 1),
        "windows": _num_windows(config, len(windows)),
        "precision": trained["precision"],
        "validation_windows": config.training.validation_windows,
        "runs": rows,
    }


def _num_windows(config: RunConfig, in_split: int) -> int:
    settings = config.experiments.accumulation
    return settings.windows or settings.epochs * in_split


def _config(config: RunConfig, steps: int, in_split: int) -> RunConfig:
    """Return the configuration of the training with ``steps`` mini-batches an optimizer step."""
    settings = config.experiments.accumulation
    effective = steps * settings.batch_size
    max_steps = max(1, round(_num_windows(config, in_split) / effective))
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
        validation_interval=max_steps,
        early_stop_patience=0,
        keep_checkpoints=1,
        tensorboard=False,
        wandb=False,
    )
    return replace(config, training=training)
