"""The efficiency experiment: what a run's model costs, measured and planned, and how it grows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from tinylm.config import RunConfig
from tinylm.evaluation.speed import product_rate
from tinylm.experiments.context import Context, threads
from tinylm.experiments.efficiency.settings import EfficiencyExperiment
from tinylm.experiments.growth import exponents, measure, random_batch, resized
from tinylm.model.base import build
from tinylm.model.cache import KVCache
from tinylm.planning.budget import training_seconds, utilisation
from tinylm.planning.flops import flops_per_token
from tinylm.planning.memory import kv_bytes, step_peak
from tinylm.planning.parameters import parameter_counts
from tinylm.training.precision import resolve_device, resolve_precision


def run(context: Context) -> dict[str, Any]:
    """Measure and plan the run's own sizes, then others, one size varied at a time.

    Raises:
        ConfigError: if the device is not there.
    """
    settings: EfficiencyExperiment = context.config.experiments.efficiency
    device = resolve_device(context.config.training.device)
    precision = resolve_precision(context.config.training.precision, device)
    training = replace(
        context.config.training,
        precision=precision,
        accumulation_steps=1,
        compile=False,
    )
    config = replace(context.config, training=training)
    series = {
        "batch_size": settings.batch_sizes,
        "context_length": settings.context_lengths,
        "num_layers": settings.depths,
        "vocab_size": settings.vocabularies,
    }
    growth = []
    pieces = 2 * (1 + sum(map(len, series.values())))
    with (
        threads(training.threads),
        context.console.task("Measuring how cost grows", pieces) as done,
    ):
        rate = product_rate(precision, device)
        own = measure([config], settings.repeats, done)[0]
        finished = 2
        for name, sizes in series.items():
            configs = [resized(config, name, size) for size in sorted(set(sizes))]
            rows = measure(configs, settings.repeats, partial(_add, done, finished))
            finished += 2 * len(configs)
            growth.append({"varied": name, "rows": rows, "exponents": exponents(rows, name)})
        return {
            "measure": "torch.cuda.max_memory_allocated"
            if device.type == "cuda"
            else "live tensor bytes",
            "precision": precision,
            "repeats": settings.repeats,
            "product_flops_per_second": rate,
            "own": own | _own(config, own, rate),
            "growth": growth,
        }


def _add(done: Callable[[float], None], finished: float, count: float) -> None:
    done(finished + count)


def _own(config: RunConfig, row: dict[str, Any], rate: float) -> dict[str, Any]:
    """Return what is measured and planned of the run's own sizes alone."""
    model = build(config.model)
    context = config.model.context_length
    cache = KVCache(config.model, 1, context)
    flops = row["planned"]["step"]
    seconds = row["step"]["median_s"]
    batch = random_batch(config)
    counter = FlopCounterMode(display=False)
    with counter:
        model(batch.ids).sum().backward()
    return {
        "measured": row["measured"]
        | {
            "parameters": sum(p.numel() for p in model.parameters()),
            "flops_per_token": counter.get_total_flops() / batch.ids.numel(),
            "kv_bytes": cache.num_bytes,
        },
        "planned": row["planned"]
        | {
            "parameters": parameter_counts(config.model)["total"],
            "flops_per_token": flops_per_token(config.model),
            "kv_bytes": kv_bytes(config.model, 1, context),
        },
        "peak_parts": asdict(step_peak(config.model, config.training)),
        "least_seconds": training_seconds(flops, rate, 1.0),
        "utilisation": utilisation(flops, seconds, rate),
    }
