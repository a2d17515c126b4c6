"""What fine-tuning costs: parameters, bytes, memory of a step, time with adapters and merged."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from tinylm.config import GenerationConfig, TrainingConfig
from tinylm.data.windows import IGNORED, Batch, ShuffledOrder, story_rows
from tinylm.errors import AdapterError
from tinylm.evaluation.memory import peak_bytes, tensor_bytes
from tinylm.evaluation.speed import run_interleaved
from tinylm.experiments.context import Console
from tinylm.experiments.finetuning.settings import FinetuningExperiment
from tinylm.experiments.lab_texts import Story
from tinylm.finetuning.adapters import adapter_of, adapters, fold, trained_parameters
from tinylm.finetuning.storage import save_adapter
from tinylm.generation.engine import generate
from tinylm.language_model import SPECIAL_IDS
from tinylm.model.base import GenerativeModel
from tinylm.numbers.quantized import QuantizedWeight
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.allocator import give_back_freed_memory
from tinylm.training.step import TrainingStep

_PROMPTS, _PROMPT_TOKENS = 8, 5
_NOTHING = 1e-30
"""A learning rate so small that no weight changes."""


def size(model: GenerativeModel) -> dict[str, int]:
    """Return the number of parameters ``trained``, and the ``bytes`` of what is saved."""
    if not adapters(model):
        parameters = list(model.parameters())
        count = sum(parameter.numel() for parameter in parameters)
        return {"trained": count, "bytes": tensor_bytes(parameters)}
    with tempfile.TemporaryDirectory() as folder:
        written = save_adapter(model, "default", folder)
    parts = trained_parameters(model, "default").values()
    return {"trained": sum(part.numel() for part in parts), "bytes": written}


def quantized(model: nn.Module) -> dict[str, int] | None:
    """Return the sizes of the matrices that are kept in 4 bits, or None if none is.

    Returns:
        ``weights``, ``code_bytes`` (4 bits each), ``constant_bytes`` (of the blocks), and
        ``float_bytes``, what the same matrices take in the model's own format.
    """
    matrices = [module for module in model.modules() if isinstance(module, QuantizedWeight)]
    if not matrices:
        return None
    codes = tensor_bytes([held.stored["codes"] for held in matrices])
    return {
        "weights": sum(held.shape.numel() for held in matrices),
        "code_bytes": codes,
        "constant_bytes": sum(held.num_bytes for held in matrices) - codes,
        "float_bytes": sum(held.shape.numel() * held.dtype.itemsize for held in matrices),
    }


def step_tokens(training: TrainingConfig, stories: Sequence[Story]) -> int:
    """Return the tokens that the timed step predicts."""
    return int((_batch(training, stories).labels != IGNORED).sum())


def step_memory(model: GenerativeModel, training: TrainingConfig, stories: Sequence[Story]) -> int:
    """Return the most bytes alive in a training step: weights, gradients, state, activations."""
    work, take = timed_step(model, training, stories)
    take()  # the optimizer makes its state at its first step
    work.optimizer.zero_grad(set_to_none=True)
    # Beside an adapter's own copies of parameters the base's own are kept.
    kept = adapter_of(model, "default").own.values() if adapters(model) else ()
    held = [*model.parameters(), *model.buffers()]
    state = [value for of in work.optimizer.state.values() for value in of.values()]
    resting = tensor_bytes([*held, *state]) + tensor_bytes(kept)
    peak = resting + peak_bytes(take, work.device)
    work.optimizer.zero_grad(set_to_none=True)
    model.eval()
    return peak


def timed_step(
    model: GenerativeModel, training: TrainingConfig, stories: Sequence[Story]
) -> tuple[TrainingStep[GenerativeModel], Callable[[], None]]:
    """Return a training step, always on the same batch, at a rate that changes no weight."""
    work = TrainingStep(model, next_token_loss, replace(training, learning_rate=_NOTHING))
    batch = _batch(training, stories)

    def take() -> None:
        work.backward([batch])
        work.update()

    return work, take


def measure_speeds(
    models: Mapping[str, GenerativeModel],
    training: TrainingConfig,
    stories: Sequence[Story],
    prompts: Sequence[Sequence[int]],
    settings: FinetuningExperiment,
    console: Console,
) -> dict[str, dict[str, Any]]:
    """Time a step of every model, and generation with its adapter attached and merged.

    Args:
        models: name -> adapted model.
        training: of the step.
        stories: of the step's batch.
        prompts: ids, from whose first few tokens texts are generated.
        settings: tokens a text, and rounds; all models take turns.
        console: shows the progress.

    Returns:
        name -> ``step`` (seconds), ``generation`` and ``generation_merged``, which is None where
        nothing is merged: timings, with tokens per second.
    """
    steps = {name: timed_step(model, training, stories)[1] for name, model in models.items()}
    with console.task("Timing steps of training", 1.0) as done:
        step_times = run_interleaved(steps, settings.repeats, progress=done)
    steps.clear()  # with the optimizers
    give_back_freed_memory()
    begun = [list(prompt[:_PROMPT_TOKENS]) for prompt in prompts[:_PROMPTS]]
    number = settings.new_tokens
    wanted = GenerationConfig(strategy="greedy", max_new_tokens=number, min_new_tokens=number)
    texts = {}
    for name, model in models.items():
        texts[name] = _generation(model.eval(), begun, wanted)
        if (plain := _merged(model)) is not None:
            texts[f"{name} merged"] = _generation(plain, begun, wanted)
    with console.task("Timing generation", 1.0) as done:
        text_times = run_interleaved(texts, settings.repeats, progress=done)

    def generation(name: str) -> dict[str, Any] | None:
        if name not in text_times:
            return None
        timing = text_times[name]
        speed = len(begun) * number / timing.median
        return {**timing.as_result(), "tokens_per_second": speed}

    return {
        name: {
            "step": step_times[name].as_result(),
            "generation": generation(name),
            "generation_merged": generation(f"{name} merged"),
        }
        for name in models
    }


def _merged(model: GenerativeModel) -> GenerativeModel | None:
    """Return a plain copy that does the same, or None if there is none."""
    if not adapters(model):
        return None
    try:
        return fold(copy.deepcopy(model)).eval()
    except AdapterError:  # of a method that is no update of the weights
        return None


def _generation(
    model: GenerativeModel, prompts: list[list[int]], config: GenerationConfig
) -> Callable[[], object]:
    return lambda: generate(model, prompts, config, SPECIAL_IDS)


def _batch(training: TrainingConfig, stories: Sequence[Story]) -> Batch:
    order = ShuffledOrder(len(stories), training.batch_size, 0)
    return story_rows([stories[i].tolist() for i in order.next()])
