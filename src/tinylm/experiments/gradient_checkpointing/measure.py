"""The gradient-checkpointing experiment: memory and time of a step, with recomputation and without.

Models have random weights: neither depends on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tinylm.config import RunConfig
from tinylm.data.windows import Windows, windows_of
from tinylm.evaluation.speed import run_interleaved
from tinylm.experiments.context import Context, threads
from tinylm.experiments.gradient_checkpointing.settings import GradientCheckpointingExperiment
from tinylm.experiments.preparation import prepare_data
from tinylm.experiments.step_costs import first_batches, prepare_step, step_memory
from tinylm.planning.limits import refuse_step
from tinylm.training.precision import resolve_device


def run(context: Context) -> dict[str, Any]:
    """Measure steps over depths and over context lengths.

    Raises:
        DataError: if the corpus cannot be used.
    """
    config = context.config
    settings: GradientCheckpointingExperiment = config.experiments.gradient_checkpointing
    data = prepare_data(config, context.console)
    tokens = settings.tokens_per_batch or config.training.batch_size * config.model.context_length
    depths = [(depth, config.model.context_length) for depth in settings.depths]
    contexts = [(min(settings.depths), length) for length in settings.context_lengths]
    measured: dict[tuple[int, int], list[dict[str, Any]]] = {}
    # A size that both series hold is measured once.
    sizes = list(dict.fromkeys([*depths, *contexts]))
    with (
        threads(config.training.threads),
        context.console.task("Measuring training steps", len(sizes)) as done,
    ):
        for count, (depth, length) in enumerate(sizes):

            def progress(share: float, before: int = count) -> None:
                done(before + share)

            model = replace(config.model, num_layers=depth, context_length=length)
            windows = windows_of(data.train, model)
            batch_size = max(1, tokens // length)
            sized = replace(
                config,
                model=model,
                training=replace(config.training, batch_size=batch_size, accumulation_steps=1),
            )
            segments = [0, *(k for k in sorted(set(settings.segments)) if k <= depth)]
            measured[depth, length] = _rows(sized, windows, segments, settings.repeats, progress)
    device = resolve_device(config.training.device)
    own = windows_of(data.train, config.model)
    return {
        "measure": "torch.cuda.max_memory_allocated"
        if device.type == "cuda"
        else "live tensor bytes",
        "precision": config.training.precision,
        "repeats": settings.repeats,
        "steps_per_epoch": math.ceil(len(own) / max(1, tokens // config.model.context_length)),
        "depth": [row for size in depths for row in measured[size]],
        "context": [row for size in contexts for row in measured[size]],
    }


def _rows(
    config: RunConfig,
    windows: Windows,
    segments: Sequence[int],
    repeats: int,
    progress: Callable[[float], None],
) -> list[dict[str, Any]]:
    """Measure one model size without recomputation (segment 0) and with it."""
    batch_size = config.training.batch_size
    change = "experiments.gradient_checkpointing.depths, context_lengths or tokens_per_batch"
    refuse_step(config.model, config.training, change=change)
    batches = first_batches(windows, batch_size, 1)
    configs = {
        segment: replace(config, training=replace(config.training, gradient_checkpointing=segment))
        for segment in segments
    }
    memory = {segment: step_memory(variant, batches) for segment, variant in configs.items()}
    steps = {
        str(segment): prepare_step(variant, batches)[1] for segment, variant in configs.items()
    }
    times = run_interleaved(steps, repeats, warmup=2, progress=progress)
    rows = []
    for segment in segments:
        timing = times[str(segment)]
        rows.append(
            {
                "num_layers": config.model.num_layers,
                "context_length": config.model.context_length,
                "batch_size": batch_size,
                "segment": segment,
                "peak_bytes": memory[segment].peak_bytes,
                "state_bytes": memory[segment].state_bytes,
                "saved_bytes": memory[segment].saved_bytes,
                "step": timing.as_result(),
                "seconds_per_epoch": timing.median * math.ceil(len(windows) / batch_size),
            }
        )
    return rows
