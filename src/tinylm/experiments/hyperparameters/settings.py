"""The settings of the experiment on the comparison of hyperparameters."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Int, PositiveFloat, PositiveInt, Sizes


@dataclass(frozen=True, config=FROZEN)
class HyperparametersExperiment:
    """Short trainings that differ in depth, number of heads or learning rate."""

    steps: PositiveInt = 300
    """Optimizer steps of each training."""
    seeds: Annotated[Int, Field(ge=2)] = 3
    """Times that the run's own settings are trained, which shows what random numbers do."""
    num_layers: Sizes = (1, 6)
    """Decoder layers to try."""
    num_heads: Sizes = (1, 4)
    """Attention heads to try; a head's width follows from their number."""
    learning_rate_factors: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.25, 4.0)
    """Learning rates to try, in multiples of training.learning_rate."""
    validation_windows: PositiveInt = 64
    """Windows of the validation split on which all are compared."""
