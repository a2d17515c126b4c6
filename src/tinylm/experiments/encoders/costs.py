"""What the models cost, by formula and on the clock: training steps, decoding, what they keep.

Formulas are those of ``planning``. What is measured is measured with random weights, since no cost
depends on them, and in turns, so that a slow phase of the machine affects all models alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tinylm.config import ModelConfig, RunConfig, TrainingConfig
from tinylm.data.windows import Batch, windows_of
from tinylm.evaluation.speed import run_interleaved
from tinylm.experiments.context import Context
from tinylm.experiments.encoders.settings import EncodersExperiment
from tinylm.experiments.encoders.trainings import Text
from tinylm.experiments.step_costs import prepare_step, step_memory
from tinylm.fast import for_decoding, remove
from tinylm.measurement import MOST
from tinylm.model.base import build
from tinylm.planning.flops import decoding_flops, step_flops
from tinylm.planning.memory import kv_bytes, state_bytes, step_peak

_TOKENS = 8
"""Tokens that are decoded in a round: one alone is too short to time."""
_CHUNK = 256
"""Tokens that are read at once after a source."""
_FLOAT = 4  # bytes of a number


def training_speed(context: Context, text: Text) -> dict[str, Any]:
    """Time a training step of every variant, by its quick parts and by its plain ones, in turns.

    Returns:
        Variant -> ``quick`` and ``plain``, timings of a step of ``text.tokens_per_step`` tokens,
        and ``targets``, the mean number of tokens that one of them predicts.
    """
    settings: EncodersExperiment = context.config.experiments.encoders
    steps: dict[str, Callable[[], object]] = {}
    targets, used = {}, []
    for variant in text.variants:
        model = text.models[variant.kind]
        windows = windows_of(text.data.train, model, view=variant.view)
        count = min(len(windows), 16 * text.batch_size)
        targets[variant.name] = windows.num_targets(range(count)) / (count * text.context_length)
        batch = windows.batch([i % len(windows) for i in range(text.batch_size)])
        for speed in ("auto", "plain"):
            training = replace(_training(context, text.batch_size), speed=speed)
            step, take = prepare_step(_run(context, model, training), [batch])
            used.append(step.model)
            steps[f"{variant.name} {speed}"] = take
    with context.console.task(f"Timing training steps on {text.name}", 1.0) as done:
        times = run_interleaved(steps, settings.rounds, progress=done)
    for each in used:
        remove(each)
    return {
        variant.name: {
            "quick": times[f"{variant.name} auto"].as_result(),
            "plain": times[f"{variant.name} plain"].as_result(),
            "targets": targets[variant.name],
        }
        for variant in text.variants
    }


def _training(context: Context, batch_size: int) -> TrainingConfig:
    own = context.config.training
    return TrainingConfig(
        batch_size=batch_size, max_steps=1, device=own.device, threads=own.threads, compile=False
    )


def _run(context: Context, model: ModelConfig, training: TrainingConfig) -> RunConfig:
    return replace(context.config, model=model, training=training)


def by_context(context: Context, text: Text) -> dict[str, list[dict[str, Any]]]:
    """Return what each length of text costs: kind -> a row a length.

    Returns:
        Of each row: ``context``; ``step_flops`` and ``decoding_flops``, for each token, planned;
        ``step`` (a timing) of ``tokens``, and ``step_bytes`` that it holds beside weights, moments
        and gradients, measured up to ``measured_context``, else None; ``planned_step_bytes``;
        ``state_bytes`` of one text of that length, ``planned_state_bytes``; and ``decoding``, the
        timing of ``decoded`` tokens at the end of such a text.
    """
    settings: EncodersExperiment = context.config.experiments.encoders
    models = text.models
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in models}
    lengths = sorted(settings.contexts)
    with context.console.task("Measuring costs by the length of text", len(lengths)) as done:
        for number, length in enumerate(lengths, 1):
            steps = _steps(context, models, length, settings)
            decoded = _decoding(models, length, settings.rounds)
            for kind, model in models.items():
                sized = replace(model, context_length=length)
                planned = step_peak(sized, replace(_training(context, 1), precision="fp32"))
                rows[kind].append(
                    {
                        "context": length,
                        "step_flops": step_flops(sized, length) / length,
                        "decoding_flops": decoding_flops(sized, length - 1, 2)
                        - decoding_flops(sized, length - 1, 1),
                        "planned_step_bytes": planned.total - state_bytes(sized),
                        "planned_state_bytes": kv_bytes(sized, 1, length, _FLOAT),
                        **steps[kind],
                        **decoded[kind],
                    }
                )
            done(number)
    return rows


def _steps(
    context: Context, models: Mapping[str, ModelConfig], length: int, settings: EncodersExperiment
) -> dict[str, dict[str, Any]]:
    """Run training steps of each kind on texts of one length, if it is short enough."""
    tokens = max(1, settings.measured_context // length) * length
    if length > settings.measured_context:
        return {kind: {"tokens": tokens, "step": None, "step_bytes": None} for kind in models}
    takes, memory, used = {}, {}, []
    for kind, model in models.items():
        sized = replace(model, context_length=length)
        batch = _rows(sized, tokens // length, length)
        run = _run(context, sized, _training(context, tokens // length))
        step, takes[kind] = prepare_step(run, [batch])
        used.append(step.model)
        single = _run(context, sized, _training(context, 1))
        held = step_memory(single, [_rows(sized, 1, length)])
        memory[kind] = held.peak_bytes - held.state_bytes
    times = run_interleaved(takes, settings.rounds)
    for each in used:
        remove(each)
    return {
        kind: {"tokens": tokens, "step": times[kind].as_result(), "step_bytes": memory[kind]}
        for kind in models
    }


def _rows(model: ModelConfig, rows: int, length: int) -> Batch:
    """Return texts of random tokens, the first half of each given."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.resolved_vocab_size, (rows, length + 1), generator=generator)
    return Batch(ids[:, :-1], ids[:, 1:].clone(), given=torch.full((rows,), max(1, length // 2)))


class _End:
    """A model that has read a text, the first half as its source, and goes on with it."""

    def __init__(self, model: ModelConfig, length: int, capacity: int) -> None:
        """Read ``length`` tokens with a model that holds ``capacity``."""
        self.model = for_decoding(build(replace(model, context_length=capacity)).eval())
        self.state: Any = self.model.decoding_state(1)
        ids = _rows(model, 1, length).ids
        source = max(1, length // 2)
        with torch.inference_mode():
            self._read(ids[:, :source], given=torch.tensor([source]))
            for start in range(source, length, _CHUNK):
                self._read(ids[:, start : start + _CHUNK])

    def _read(self, ids: Tensor, given: Tensor | None = None) -> None:
        """Read tokens of the text; what is read at once is not long, so that scores are few."""
        first = self.state.length
        places = torch.arange(first, first + ids.shape[1])[None]
        self.model.residual(ids, positions=places, given=given, cache=self.state)

    def go_on(self) -> None:
        """Decode some tokens, always the same: which they are costs nothing."""
        with torch.inference_mode():
            for _ in range(_TOKENS):
                self.model.next_logits([0], [self.state.length], self.state)


def _decoding(
    models: Mapping[str, ModelConfig], length: int, rounds: int
) -> dict[str, dict[str, Any]]:
    """Decode tokens at the end of a text of one length with each kind, in turns."""
    room = length + _TOKENS * (1 + MOST * rounds)
    ends = {kind: _End(model, length, room) for kind, model in models.items()}
    times = run_interleaved({kind: end.go_on for kind, end in ends.items()}, rounds)
    return {
        kind: {
            "state_bytes": _End(model, length, length).state.num_bytes,
            "decoding": times[kind].as_result(),
            "decoded": _TOKENS,
        }
        for kind, model in models.items()
    }
