"""The settings of the experiment on what next-token prediction learns."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import (
    FROZEN,
    Float,
    Int,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

Share = Annotated[Float, Field(gt=0, lt=1)]


@dataclass(frozen=True, config=FROZEN)
class AutocompleteExperiment:
    """Tasks in plain text, learned by predicting the next token."""

    items: PositiveInt = 32_000
    """Training items of the main trainings, of all tasks together."""
    fewer_items: tuple[PositiveInt, ...] = (2_000, 8_000)
    """Smaller numbers of items, each for as many steps."""
    withheld: Share = 0.1
    """Share of the facts that stand in no training item."""
    more_withheld: Share = 0.5
    """A larger share, for a training of its own."""
    num_layers: PositiveInt = 3
    """Layers of every model."""
    num_heads: PositiveInt = 4
    """Heads of every layer."""
    hidden_size: PositiveInt = 64
    """Width of the main model; hidden_size / num_heads must be even, for rotary positions."""
    smaller: tuple[PositiveInt, ...] = (16, 32)
    """Widths of smaller models."""
    context_length: Annotated[Int, Field(ge=50)] = 64
    """Tokens of a window; the longest item has 50."""
    steps: Annotated[Int, Field(ge=2)] = 6_000
    """Optimizer steps of every training."""
    batch_size: PositiveInt = 16
    """Windows in a batch."""
    learning_rate: PositiveFloat = 3e-3
    """Peak learning rate; it is warmed up over a twentieth of the steps and ends at a tenth."""
    points: Annotated[Int, Field(ge=2)] = 10
    """Measurements over each of the main trainings, the first before any step."""
    held_out: Annotated[Int, Field(ge=2)] = 150
    """Held-out items of each task, on which accuracy is measured."""
    stories: Annotated[Int, Field(ge=8)] = 400
    """Held-out stories of things that change hands, on whose activations the state is read."""
    patched: Annotated[Int, Field(ge=2)] = 60
    """Pairs of held-out stories whose activations are exchanged."""
    seeds: PositiveInt = 3
    """Repetitions, each with other items, withheld facts, weights and order."""
    seed: NonNegativeInt = 0
    """The first of them."""
