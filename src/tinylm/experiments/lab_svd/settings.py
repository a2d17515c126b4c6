"""The settings of the experiment on low-rank factorisation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Fraction, PositiveFloat, PositiveInt

Share = Annotated[Fraction, Field(gt=0)]


@dataclass(frozen=True, config=FROZEN)
class SvdLab:
    """Low-rank factorisation of trained weights and of a fine-tuning update."""

    ranks: tuple[PositiveInt, ...] = ()
    """Ranks to cut at; empty: powers of two, 3/4 of the largest rank, and that itself."""
    competitors: PositiveInt = 50
    """Random factorisations that truncated SVD is compared with."""
    validation_windows: PositiveInt = 32
    """Windows of the validation split on which cut weights are judged."""
    share: Share = 0.25
    """Share of the stories, those with the most dialogue, that the model is fine-tuned on."""
    steps: PositiveInt = 150
    """Optimizer steps of the fine-tuning."""
    learning_rate: PositiveFloat | None = None
    """Its learning rate, falling to 0; empty: a fifth of training.learning_rate."""
    stories: PositiveInt = 60
    """Validation stories of each kind on which the update is judged."""
