"""How cost grows with one size at a time: measured, and by the formulas of ``planning``.

Models have random weights and read random tokens: neither time nor memory depends on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tinylm.config import GenerationConfig, ModelConfig, RunConfig
from tinylm.data.windows import Batch
from tinylm.evaluation.speed import run_interleaved
from tinylm.experiments.step_costs import prepare_step, step_memory
from tinylm.generation.engine import generate
from tinylm.language_model import SPECIAL_IDS
from tinylm.model.base import GenerativeModel
from tinylm.planning.activations import activation_bytes
from tinylm.planning.flops import decoding_flops, step_flops
from tinylm.planning.limits import refuse_step
from tinylm.planning.memory import step_peak
from tinylm.tokenizers.base import SOS_ID, SPECIAL_TOKENS

_WARMUP = 2  # rounds that are not counted
_PROMPT = 4  # tokens before the first generated one
_NEW = 4  # a quarter of the context is generated
COSTS = ("step", "generation", "saved_bytes", "peak_bytes")
"""What is followed. A row holds each ``measured``, in seconds and bytes, and ``planned``: bytes,
and for the times FLOPs of matrix products, to which they should be proportional."""


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return p of the cost ``c * size^p`` that fits best, by least squares over the logarithms.

    NaN where there are fewer than two sizes.
    """
    if len(set(sizes)) < 2:
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def random_batch(config: RunConfig) -> Batch:
    """Return a batch of full windows of random tokens, none of them a special one."""
    model = config.model
    shape = (config.training.batch_size, model.context_length)
    generator = torch.Generator().manual_seed(config.training.seed)
    ids, labels = (
        torch.randint(len(SPECIAL_TOKENS), model.resolved_vocab_size, shape, generator=generator)
        for _ in range(2)
    )
    return Batch(ids, labels)


def measure(
    configs: Sequence[RunConfig], repeats: int, progress: Callable[[float], None]
) -> list[dict[str, Any]]:
    """Measure a training step and generation of each configuration, and plan them.

    Args:
        configs: resolved; each is taken without accumulation, frozen parts and ``torch.compile``.
        repeats: timed rounds, in which the configurations take turns.
        progress: told how many of the ``2 * len(configs)`` pieces of work are done.

    Returns:
        A row a configuration: its sizes, ``step`` and ``generation`` (timings), ``tokens`` of the
        step and ``new_tokens`` generated, and the costs ``measured`` and ``planned``.
    """
    rows: list[dict[str, Any]] = []
    steps, generations = {}, {}
    for config in configs:
        change = "experiments.efficiency.batch_sizes, context_lengths, depths or vocabularies"
        refuse_step(config.model, config.training, change=change)
    for number, config in enumerate(configs):
        batches = [random_batch(config)]
        memory = step_memory(config, batches)
        step, steps[str(number)] = prepare_step(config, batches)
        new = max(1, config.model.context_length // _NEW)
        prompt = max(1, min(_PROMPT, config.model.context_length - new))
        generations[str(number)] = _generation(step.model, config, prompt, new)
        rows.append(
            {
                **sizes(config),
                "tokens": batches[0].ids.numel(),
                "new_tokens": config.training.batch_size * new,
                "measured": {"saved_bytes": memory.saved_bytes, "peak_bytes": memory.peak_bytes},
                "planned": planned(config, prompt, new),
            }
        )
        progress(number + 1)
    for name, work in (("step", steps), ("generation", generations)):
        before = 1 if name == "step" else 1.5

        def timed(share: float, before: float = before) -> None:
            progress(len(rows) * (before + share / 2))

        times = run_interleaved(work, repeats, _WARMUP, timed)
        for number, row in enumerate(rows):
            row[name] = times[str(number)].as_result()
            row["measured"][name] = row[name]["median_s"]
    return rows


def sizes(config: RunConfig) -> dict[str, int]:
    """Return the four sizes that are varied, under the names of their settings."""
    return {
        "batch_size": config.training.batch_size,
        "context_length": config.model.context_length,
        "num_layers": config.model.num_layers,
        "vocab_size": config.model.resolved_vocab_size,
    }


def resized(config: RunConfig, name: str, size: int) -> RunConfig:
    """Return a configuration with another value of one of the four sizes."""
    if name == "batch_size":
        return replace(config, training=replace(config.training, batch_size=size))
    return replace(config, model=_with(config.model, name, size))


def _with(model: ModelConfig, name: str, size: int) -> ModelConfig:
    changes: dict[str, Any] = {name: size}
    return replace(model, **changes)


def exponents(rows: Sequence[dict[str, Any]], name: str) -> dict[str, dict[str, float | None]]:
    """Fit how each cost grows with the size ``name``: cost -> measured and planned exponent."""
    places = [row[name] for row in rows]
    fitted: dict[str, dict[str, float | None]] = {}
    for cost in COSTS:
        fitted[cost] = {}
        for way in ("measured", "planned"):
            value = exponent(places, [row[way][cost] for row in rows])
            fitted[cost][way] = None if math.isnan(value) else value  # JSON has no NaN
    return fitted


def _generation(
    model: GenerativeModel, config: RunConfig, prompt: int, new: int
) -> Callable[[], object]:
    greedy = GenerationConfig(strategy="greedy", max_new_tokens=new, min_new_tokens=new)
    prompts = [[SOS_ID] * prompt] * config.training.batch_size
    return lambda: generate(model, prompts, greedy, SPECIAL_IDS)


def planned(config: RunConfig, prompt: int, new: int) -> dict[str, int]:
    """Return the planned costs of a step, and of ``new`` tokens generated after a prompt."""
    model, training = config.model, config.training
    kept = activation_bytes(
        model,
        training.batch_size,
        precision=training.precision,
        segment=training.gradient_checkpointing,
        quick=training.speed == "auto",
    )
    return {
        "step": training.batch_size * step_flops(model, model.context_length),
        "generation": training.batch_size * decoding_flops(model, prompt, new),
        "saved_bytes": kept["total"],
        "peak_bytes": step_peak(model, training).total,
    }
