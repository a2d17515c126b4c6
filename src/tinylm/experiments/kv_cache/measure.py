"""The KV-cache experiment: the cost of generation with and without a cache, step by step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from tinylm.config import GenerationConfig, ModelConfig
from tinylm.evaluation.memory import tensor_bytes
from tinylm.evaluation.speed import run_interleaved
from tinylm.experiments.context import Context, threads
from tinylm.experiments.growth import exponent
from tinylm.experiments.kv_cache.settings import KVCacheExperiment
from tinylm.generation.engine import Generated, generate, generate_steps
from tinylm.language_model import SPECIAL_IDS, LanguageModel
from tinylm.measurement import Measurement, mean
from tinylm.model.base import GenerativeModel, build
from tinylm.model.cache import KVCache
from tinylm.planning.limits import refuse_generation
from tinylm.planning.memory import kv_bytes
from tinylm.tokenizers.base import SOS_ID
from tinylm.training.precision import resolve_device

_NAMES = {"cached": True, "uncached": False}
_PROMPT = 4  # tokens before the first generated one where the growth is followed
_NEAR = 8  # steps before a length whose median is the cost of a step at it


def run(context: Context) -> dict[str, Any]:
    """Time generation from the run's best checkpoint with the cache and without.

    Raises:
        CheckpointError: if there is none.
        ConfigError: if the texts need more memory than there is.
    """
    config = context.config
    settings: KVCacheExperiment = config.experiments.kv_cache
    device = resolve_device(config.training.device)
    lm = LanguageModel.load(context.folder, device)
    longer = replace(lm.model.config, context_length=_PROMPT + settings.length)
    if device.type == "cpu":
        for model in (lm.model.config, longer):
            change = "experiments.kv_cache.samples or experiments.kv_cache.length"
            refuse_generation(model, settings.samples, _PROMPT, change)
    with threads(config.training.threads):
        samples = _samples(context, lm)
        growth = _growth(context, longer, device)
    model = lm.model.config
    number = lm.model.embedding.weight.element_size()
    return {
        "repeats": settings.repeats,
        "samples": samples,
        "growth": growth,
        "memory": [
            _memory(lm.model, settings.samples, length, device) for length in growth["lengths"]
        ],
        "formula": {
            "num_layers": model.num_layers,
            "num_heads": model.num_heads,
            "head_dim": model.resolved_head_dim,
            "bytes_per_number": number,
            "kv_bytes_per_token": kv_bytes(model, 1, 1, number),
        },
    }


def _time_both(
    context: Context, title: str, make: Callable[[str, bool], Callable[[], None]]
) -> dict[str, Measurement]:
    """Time what ``make(name, use_cache)`` returns, with the cache and without, in turns."""
    repeats = context.config.experiments.kv_cache.repeats
    with context.console.task(title, 1.0) as done:
        work = {name: make(name, use_cache) for name, use_cache in _NAMES.items()}
        return run_interleaved(work, repeats, progress=done)


def _samples(context: Context, lm: LanguageModel) -> dict[str, Any]:
    """Time a batch of samples of the run's prompts, as long as the context holds.

    Beyond it the window is read anew for every token, with a cache or without.
    """
    config = context.config
    settings: KVCacheExperiment = config.experiments.kv_cache
    texts = [config.report.prompts[i % len(config.report.prompts)] for i in range(settings.samples)]
    prompts = [[SOS_ID, *ids] for ids in lm.tokenizer.encode_batch(texts)]
    room = max(1, lm.model.config.context_length + 1 - max(map(len, prompts)))
    most = min(room, config.generation.max_new_tokens)
    sampling = replace(config.generation, strategy="sampling", max_new_tokens=most)
    outputs: dict[str, list[Generated]] = {}

    def sample(name: str, use_cache: bool) -> Callable[[], None]:
        def work() -> None:
            outputs[name] = generate(lm.model, prompts, sampling, SPECIAL_IDS, use_cache)

        return work

    times = _time_both(context, "Sampling with and without the cache", sample)
    tokens = {
        name: sum(len(text.ids) + text.finished for text in generated)
        for name, generated in outputs.items()
    }
    return {
        "batch": settings.samples,
        "tokens": tokens["cached"],
        "max_new_tokens": sampling.max_new_tokens,
        **{
            name: timing.as_result() | {"tokens_per_second": tokens[name] / timing.median}
            for name, timing in times.items()
        },
        "identical": [text.ids for text in outputs["cached"]]
        == [text.ids for text in outputs["uncached"]],
    }


def _growth(context: Context, model: ModelConfig, device: torch.device) -> dict[str, Any]:
    """Follow the time of every step of one long generation."""
    settings: KVCacheExperiment = context.config.experiments.kv_cache
    length = settings.length
    # The cost of a step does not depend on the weights, so the context can be as long as wanted.
    longer = build(model).to(device)
    prompts = [[SOS_ID] * _PROMPT] * settings.samples
    greedy = GenerationConfig(strategy="greedy", max_new_tokens=length, min_new_tokens=length)
    steps: dict[str, list[list[float]]] = {name: [] for name in _NAMES}

    def follow(name: str, use_cache: bool) -> Callable[[], None]:
        def work() -> None:
            seconds = []
            started = time.perf_counter()
            for _ in generate_steps(longer, prompts, greedy, SPECIAL_IDS, use_cache):
                now = time.perf_counter()  # the ids of the step are known, so its work is done
                seconds.append(now - started)
                started = now
            steps[name].append(seconds)

        return work

    _time_both(context, "Following the cost of each step", follow)
    lengths = _lengths(length)
    start = max(lengths[0] // 2, length // 4)
    grown = {name: _curves(rounds[1:], lengths, start) for name, rounds in steps.items()}
    return {
        "batch": settings.samples,
        "length": length,
        "lengths": lengths,
        **grown,
        "fitted_from": start,
    }


def _lengths(longest: int) -> list[int]:
    """Return the powers of two from 16 up to the longest, and the longest."""
    powers = [2**i for i in range(4, longest.bit_length()) if 2**i < longest]
    return [*powers, longest]


def _curves(
    rounds: Sequence[Sequence[float]], lengths: Sequence[int], start: int
) -> dict[str, Any]:
    """Sum up the seconds of every step, (rounds, length)."""
    sums = [list(accumulate(seconds)) for seconds in rounds]
    steps = [
        Measurement.of([statistics.median(seconds[max(0, n - _NEAR) : n]) for seconds in rounds])
        for n in lengths
    ]
    totals = [Measurement.of([total[n - 1] for total in sums]) for n in lengths]
    exponents = [exponent(range(start, len(sum_) + 1), sum_[start - 1 :]) for sum_ in sums]
    return {
        "step_ms": [1000 * step.median for step in steps],
        "total_s": [total.median for total in totals],
        "steps": [step.as_result() for step in steps],
        "totals": [total.as_result() for total in totals],
        "exponent": mean(exponents).as_result(),
    }


def _memory(
    model: GenerativeModel, batch: int, tokens: int, device: torch.device
) -> dict[str, int]:
    """Return the bytes that the keys and values of a cache take, allocated and by the formula."""
    weight = model.embedding.weight
    cache = KVCache(model.config, batch, tokens, device, weight.dtype)
    buffers = [
        value
        for value in vars(cache).values()
        if isinstance(value, Tensor) and value.is_floating_point()
    ]
    return {
        "tokens": tokens,
        "batch": batch,
        "measured_bytes": tensor_bytes(buffers),
        "formula_bytes": kv_bytes(model.config, batch, tokens, weight.element_size()),
    }
