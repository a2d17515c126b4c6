"""The precision experiment: the same training in float32 and in bfloat16.

Both start from the same weights and see the same windows and the same dropout masks; only the
number format of the matrix products differs. What is compared: the validation loss at the end, and
the gradient of one batch at the weights of the start and of the end, in both formats.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tinylm.config import RunConfig
from tinylm.data.windows import Batch, ShuffledOrder, Windows, windows_of
from tinylm.errors import TrainingError
from tinylm.evaluation.perplexity import split_loss
from tinylm.experiments.checks.material import gradients, seeded
from tinylm.experiments.context import Context, threads
from tinylm.experiments.precision.settings import PrecisionExperiment
from tinylm.experiments.preparation import prepare_data, start_model
from tinylm.measurement import Replicates, paired
from tinylm.model.base import GenerativeModel
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.optimizers import set_learning_rate
from tinylm.training.precision import cpu_has_bf16
from tinylm.training.schedules import learning_rate_factor
from tinylm.training.step import TrainingStep
from tinylm.value_types import Precision

LOSS_TOLERANCE = 0.005
"""Largest relative difference of the validation losses. A bound on what rounding may cost, not a
test whether it costs anything: on enough windows any two trainings differ measurably."""
COSINE_TOLERANCE = 0.98
"""Least cosine between the gradients of any part."""
ERROR_TOLERANCE = 0.2
"""Largest norm of the difference of a part's gradients, relative to that in float32. bfloat16 keeps
8 bits of a number, and a trained model's gradient is what is left of large terms that cancel: the
error of their rounding does not shrink with it."""
FORMATS: tuple[Precision, ...] = ("fp32", "bf16")


def run(context: Context) -> dict[str, Any]:
    """Train in both formats and compare.

    Returns:
        ``trained`` (format -> curve, seconds, validation loss in float32), ``loss_difference``
        (relative), ``loss_change`` (how much more it is after bfloat16, in nats, with its interval
        over the windows), ``agreement`` of the gradients at the ``start`` and at the ``end`` of the
        training in float32, the ``tolerances``, and ``failed``: what is outside.

    Raises:
        DataError: if the corpus cannot be used.
    """
    config = context.config
    settings: PrecisionExperiment = config.experiments.precision
    data = prepare_data(config, context.console)
    length = config.model.context_length
    windows = windows_of(data.train, config.model, length)
    validation = windows_of(data.validation, config.model, length)
    subset = validation.fixed_subset(settings.validation_windows)
    models: dict[str, GenerativeModel] = {}
    losses_by_block: dict[str, Replicates] = {}
    trained: dict[str, dict[str, Any]] = {}
    with threads(config.training.threads):
        start = start_model(config, data, context.console)
        total = settings.steps * len(FORMATS)
        with context.console.task("Training in two number formats", total) as done:
            for number, name in enumerate(FORMATS):
                step = training_step(config, start, name)
                began = time.perf_counter()
                losses = []
                for loss in train(step, windows, settings.steps):
                    losses.append(loss)
                    done(number * settings.steps + len(losses))
                seconds = time.perf_counter() - began
                models[name] = step.model
                evaluated = split_loss(step.model, validation, config.evaluation.batch_size, subset)
                losses_by_block[name] = evaluated.replicates()
                trained[name] = {
                    "curve": losses,
                    "seconds": seconds,
                    "validation_loss": evaluated.mean,
                }
        batch = windows.batch(range(min(len(windows), config.training.batch_size)))
        with context.console.task("Comparing gradients in two number formats"):
            agreement = {
                "start": gradient_agreement(config, start, batch),
                "end": gradient_agreement(config, models["fp32"], batch),
            }
    plain, low = (trained[name]["validation_loss"] for name in FORMATS)
    difference = abs(low / plain - 1)
    return {
        "steps": settings.steps,
        "tokens_per_step": windows.context_length * config.training.batch_size,
        "native": step.device.type == "cuda" or cpu_has_bf16(),
        "trained": trained,
        "loss_difference": difference,
        "loss_change": paired(losses_by_block["bf16"], losses_by_block["fp32"]).as_result(),
        "agreement": agreement,
        "tolerances": {
            "loss": LOSS_TOLERANCE,
            "cosine": COSINE_TOLERANCE,
            "error": ERROR_TOLERANCE,
        },
        "failed": outside(difference, agreement),
    }


def outside(difference: float, agreement: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what is not within the tolerances: ``loss``, ``gradient at the start``, …"""
    failed = [] if difference <= LOSS_TOLERANCE else ["loss"]
    for place, parts in agreement.items():
        if not all(
            comparison["cosine"] >= COSINE_TOLERANCE and comparison["error"] <= ERROR_TOLERANCE
            for comparison in parts.values()
        ):
            failed.append(f"gradient at the {place}")
    return failed


def training_step(
    config: RunConfig, model: GenerativeModel, precision: Precision
) -> TrainingStep[GenerativeModel]:
    """Return a training step on a copy of a model, in a number format and without compiling."""
    training = replace(config.training, precision=precision, compile=False)
    return TrainingStep(copy.deepcopy(model), next_token_loss, training)


def train(step: TrainingStep[GenerativeModel], windows: Windows, steps: int) -> Iterator[float]:
    """Take optimizer steps with the seeds of a run, and yield the loss per token of each."""
    config = step.config
    torch.manual_seed(config.seed)
    order = ShuffledOrder(len(windows), config.batch_size, config.seed)
    for number in range(steps):
        set_learning_rate(step.optimizer, learning_rate_factor(config, number, steps))
        batches = [windows.batch(order.next()) for _ in range(config.accumulation_steps)]
        summed = step.backward(batches)
        step.update()
        yield summed.loss / max(1, summed.num_targets)


def gradient_agreement(
    config: RunConfig, model: GenerativeModel, batch: Batch
) -> dict[str, dict[str, float]]:
    """Compare the gradients of a batch in bfloat16 with those in float32.

    Args:
        config: how the model is trained; the same dropout masks are drawn in both formats.
        model: the weights; left alone.
        batch: full windows.

    Returns:
        Part of the model, and ``all`` -> ``cosine``, and ``error``: the norm of the difference,
        relative to that in float32.

    Raises:
        TrainingError: if a parameter has a gradient in one format alone.
    """
    unclipped = replace(config, training=replace(config.training, gradient_clip=0.0))
    by_format = []
    for precision in FORMATS:
        step = training_step(unclipped, model, precision)
        with seeded(config.training.seed, step.device):
            step.backward([batch])
        by_format.append(gradients(step.model))
    plain, low = by_format
    for name in plain.keys() ^ low.keys():
        raise TrainingError(f"{name} has a gradient in {' or '.join(FORMATS)} alone, not in both")
    parts: dict[str, list[str]] = {"all": list(plain)}
    for name in plain:
        parts.setdefault(_part(name), []).append(name)
    return {part: _compare(plain, low, names) for part, names in parts.items()}


def _part(name: str) -> str:
    for word, part in (
        ("norm", "norms"),
        (".attention.", "attention"),
        (".feed_forward.", "feed-forward"),
    ):
        if word in name:
            return part
    return name.partition(".")[0]


def _compare(
    plain: Mapping[str, Tensor], low: Mapping[str, Tensor], names: Sequence[str]
) -> dict[str, float]:
    reference, lower = (
        torch.cat([gradients_of[name].flatten() for name in names]).double()
        for gradients_of in (plain, low)
    )
    cosine = reference @ lower / (reference.norm() * lower.norm())
    return {"cosine": float(cosine), "error": float((reference - lower).norm() / reference.norm())}
