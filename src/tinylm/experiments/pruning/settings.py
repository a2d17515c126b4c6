"""The settings of the experiment on pruning."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Float, NonNegativeInt, PositiveFloat, PositiveInt

Shares = Annotated[tuple[Annotated[Float, Field(gt=0, lt=1)], ...], Field(min_length=1)]


@dataclass(frozen=True, config=FROZEN)
class PruningExperiment:
    """Perplexity, time and bytes of pruned models."""

    shares: Shares = (0.25, 0.5, 0.75, 0.9, 0.95)
    """Of the weights, heads, neurons or layers that go, above 0 and below 1; the whole model is
    measured beside them."""
    retrain_steps: NonNegativeInt = 20
    """Optimizer steps afterwards; 0: none are tried."""
    retrain_rate: PositiveFloat = 0.3
    """Learning rate of these steps, as a multiple of the run's."""
    windows: PositiveInt = 16
    """Windows of the training split that a method reads before it decides."""
    tokens: PositiveInt = 128
    """Tokens of the text whose decoding is timed, or as many as the context holds."""
    sparse_shares: Shares = (0.5, 0.75, 0.9, 0.95, 0.99)
    """Of a map's weights that are 0 where its product in a sparse format is timed."""
    stories: PositiveInt = 32
    """Validation stories on which each head in turn is replaced by its mean."""
    repeats: Annotated[PositiveInt, Field(ge=2)] = 5
    """Timed rounds after one that warms up."""
