"""A two-layer model in which induction heads form, and what is measured while they do.

It is trained on texts that repeat themselves after a number of random tokens which differs from
text to text, so that what comes next is known from the tokens themselves and from no position.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tinylm.config import ModelConfig, TrainingConfig
from tinylm.data.windows import Batch
from tinylm.experiments.induction.settings import InductionExperiment
from tinylm.fast import remove
from tinylm.interpretability.circuits import composition
from tinylm.interpretability.head_scores import HeadScores, head_scores, repeated_tokens
from tinylm.interpretability.text_losses import batches_of, in_context_score, position_losses
from tinylm.model.base import GenerativeModel, build
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.tokenizers.base import SOS_ID, SPECIAL_TOKENS
from tinylm.training.step import TrainingStep

_FIRST = len(SPECIAL_TOKENS)
"""The first id that is not special."""
_SHORTEST = 6
"""Part of the context that the shortest period of a training text is."""

_DECIMALS = 4


@dataclass(frozen=True, eq=False)
class Formed:
    """The model after its training, and what was measured on the way."""

    model: GenerativeModel
    repeated: Tensor
    """The texts on which it was measured, (texts, 1 + 2 * length)."""
    curve: list[dict[str, Any]]
    """A row each measurement."""
    seconds: float


def model_config(settings: InductionExperiment) -> ModelConfig:
    """Return the sizes of the two-layer model.

    Rotary positions, since a score then depends on the distance alone, so that one head can attend
    to the previous token at all positions.
    """
    return ModelConfig(
        vocab_size=settings.types + _FIRST,
        context_length=settings.context_length,
        num_layers=2,
        num_heads=settings.num_heads,
        hidden_size=settings.hidden_size,
        ffn_size=settings.hidden_size,
        dropout=0.0,
        norm_placement="pre",
        positions="rotary",
    )


def training_texts(settings: InductionExperiment, generator: torch.Generator) -> Batch:
    """Return a batch of texts, each of which repeats its own random tokens to the end."""
    length = settings.context_length
    rows = torch.full((settings.batch_size, length + 1), SOS_ID)
    for row in rows:
        shortest = max(2, length // _SHORTEST)
        period = int(torch.randint(shortest, length // 2 + 1, (), generator=generator))
        once = torch.randint(_FIRST, _FIRST + settings.types, (period,), generator=generator)
        row[1:] = once.repeat(length // period + 1)[:length]
    return Batch(rows[:, :-1], rows[:, 1:])


def points(steps: int, count: int) -> list[int]:
    """Return the steps after which is measured, evenly spread: the first 0, the last ``steps``."""
    return sorted({round(steps * i / (count - 1)) for i in range(count)})


def form(
    settings: InductionExperiment,
    training: TrainingConfig,
    progress: Callable[[float], None] = lambda done: None,
) -> Formed:
    """Train the model and measure it on the way.

    Args:
        settings: of the experiment.
        training: of the run, for its device; what else is trained by is the experiment's own.
        progress: called with the number of steps that are done.
    """
    began = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = build(model_config(settings))
    own = TrainingConfig(
        optimizer="adamw",
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        max_steps=settings.steps,
        device=training.device,
        speed=training.speed,
    )
    step = TrainingStep(model, next_token_loss, own, settings.steps)
    generator = torch.Generator().manual_seed(settings.seed)
    types = range(_FIRST, _FIRST + settings.types)
    length = min((settings.context_length - 1) // 2, settings.types)
    repeated = repeated_tokens(types, length, settings.texts, SOS_ID, settings.seed)
    measured = set(points(settings.steps, settings.points))
    curve = []
    for done in range(settings.steps + 1):
        if done in measured:
            curve.append({"step": done, **_measured(model, repeated)})
        if done < settings.steps:
            step.backward([training_texts(settings, generator)])
            step.update()
            progress(done + 1)
    remove(model)
    return Formed(model.eval(), repeated, curve, time.perf_counter() - began)


def _measured(model: GenerativeModel, repeated: Tensor) -> dict[str, Any]:
    scores = head_scores(model, repeated)
    losses = position_losses(model, batches_of(model, repeated.tolist()))
    composed = composition(model, "key")
    return {
        **losses_of(losses),
        "previous_token": _rounded(scores.previous_token),
        "prefix_matching": _rounded(scores.prefix_matching),
        # Of each pair: a head of the first layer, and one of the second.
        "key_composition": _rounded(composed.excess[0, :, 1]),
    }


def _rounded(table: Tensor) -> list[list[float]]:
    """Return what a figure can show of numbers, in half of the bytes."""
    return [[round(value, _DECIMALS) for value in row] for row in table.tolist()]


def losses_of(losses: Tensor) -> dict[str, float]:
    """Return the mean loss on each half of repeated texts, and the in-context learning score.

    The score's early token stands in the middle of the first half, its late one at the end.

    Args:
        losses: (texts, 2 * length), nats.
    """
    length = losses.shape[1] // 2
    return {
        "first_half": float(losses[:, :length].mean()),
        "second_half": float(losses[:, length:].mean()),
        "in_context": in_context_score(losses, max(1, length // 2), 2 * length).value,
    }


def table_of(scores: HeadScores) -> list[dict[str, Any]]:
    """Return the scores of every head, a row each."""
    layers, heads = scores.first_token.shape
    return [
        {
            "layer": layer,
            "head": head,
            **{name: float(table[layer, head]) for name, table in vars(scores).items()},
        }
        for layer in range(layers)
        for head in range(heads)
    ]
