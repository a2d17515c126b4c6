"""The settings of the experiment on lenses."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Int, NonNegativeInt, PositiveFloat, PositiveInt


@dataclass(frozen=True, config=FROZEN)
class LensExperiment:
    """The residual stream read at every place, and what each part adds to a logit."""

    stories: Annotated[Int, Field(ge=2)] = 50
    """Validation stories that are read, each cut to the context."""
    tuned_stories: PositiveInt = 200
    """Stories of the train split on which the tuned lens is trained."""
    steps: NonNegativeInt = 250
    """Of the training of the tuned lens, each of 256 tokens."""
    learning_rate: PositiveFloat = 5e-3
    """Of its first step; it falls to 0."""
