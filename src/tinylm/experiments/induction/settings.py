"""The settings of the experiment on induction heads."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Int, NonNegativeInt, PositiveFloat, PositiveInt

FORMED = 0.5
"""Prefix-matching score from which a head is called an induction head: most of its weight."""


@dataclass(frozen=True, config=FROZEN)
class InductionExperiment:
    """Induction heads: a two-layer model in which they form, and those of the run."""

    types: Annotated[Int, Field(ge=24)] = 64
    """Token types of the two-layer model, without special ones."""
    context_length: Annotated[Int, Field(ge=12)] = 48
    """Tokens of its texts."""
    hidden_size: PositiveInt = 64
    """Width of its residual stream."""
    num_heads: PositiveInt = 4
    """Heads in each of its layers; hidden_size / num_heads must be even, for rotary positions."""
    steps: PositiveInt = 600
    """Optimizer steps of its training."""
    batch_size: PositiveInt = 32
    """Texts in a batch."""
    learning_rate: PositiveFloat = 2e-3
    """Learning rate, constant."""
    points: Annotated[Int, Field(ge=2)] = 40
    """Measurements over the training."""
    texts: Annotated[Int, Field(ge=2)] = 32
    """Texts of repeated random tokens on which heads are measured."""
    stories: Annotated[Int, Field(ge=2)] = 64
    """Validation stories on which the run's heads are switched off."""
    random_sets: PositiveInt = 10
    """Sets of random heads that are switched off beside each set of those with high scores."""
    seed: NonNegativeInt = 0
    """Seed of the weights, of the texts and of the random sets."""
