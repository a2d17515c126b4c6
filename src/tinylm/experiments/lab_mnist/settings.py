"""The settings of the experiment on LoRA on digits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Fraction, NonNegativeInt, PositiveFloat, PositiveInt

Share = Annotated[Fraction, Field(gt=0)]
Rank = Annotated[PositiveInt, Field(le=10)]
"""Of an adapter of all layers of the digits' network, whose last one has 10 rows."""


@dataclass(frozen=True, config=FROZEN)
class MnistLab:
    """LoRA on a classifier of handwritten digits, for the classes that it is worst at."""

    data: str | None = None
    """Folder of MNIST's IDX files; empty: the digits that come with scikit-learn."""
    test_share: Share = 0.2
    """Share held out for testing where the data has no test split of its own."""
    validation_share: Share = 0.25
    """Share of the training images on which weaknesses are found and learning rates chosen."""
    hidden_size: PositiveInt = 64
    """Width of the two hidden layers."""
    baseline_steps: PositiveInt = 150
    """Optimizer steps of the baseline: few, so that it is left with weak classes."""
    baseline_learning_rate: PositiveFloat = 1e-3
    """Its learning rate at the start."""
    hard_classes: Annotated[PositiveInt, Field(le=9)] = 3
    """Number of classes, those with the lowest accuracy, that are fine-tuned for."""
    hard_share: Share = 0.4
    """Share of each batch drawn from them; the rest rehearses the other classes."""
    steps: PositiveInt = 300
    """Optimizer steps of every method."""
    batch_size: PositiveInt = 64
    """Images in a batch."""
    rank: Rank = 4
    """Rank of the LoRA that the report describes; 10 at most, the rows of the last layer."""
    ranks: tuple[Rank, ...] = (1, 2, 8)
    """Other ranks, for accuracy against parameters."""
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (3e-3, 1e-2, 3e-2)
    """Learning rates tried for every method; the one that is best on validation is used."""
    seeds: PositiveInt = 5
    """Repetitions, each from another start and with other batches."""
    seed: NonNegativeInt = 0
    """The first of them, and the seed of the splits."""
