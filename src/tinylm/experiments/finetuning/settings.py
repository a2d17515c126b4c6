"""The settings of the experiment on parameter-efficient fine-tuning."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Int, NonNegativeInt, PositiveInt, Sizes

Rank = Annotated[PositiveInt, Field(le=10)]
"""Of an adapter of all layers of the digits' network, whose last one has 10 rows."""


@dataclass(frozen=True, config=FROZEN)
class FinetuningExperiment:
    """The run's model, adapted to another kind of text by every method."""

    target: str | None = None
    """Text that the model is adapted to: a corpus, or a folder or file as --data takes; empty:
    letters, or stories where the run's own text is letters."""
    texts: PositiveInt = 4_000
    """Most texts of it to train on."""
    stories: Annotated[Int, Field(ge=2)] = 100
    """Validation texts of either kind."""
    steps: PositiveInt = 150
    """Optimizer steps of every adaptation."""
    batch_size: PositiveInt = 16
    """Rows in a batch: texts, or pieces of them as long as the context."""
    seeds: Annotated[Int, Field(ge=2)] = 3
    """Seeds with which LoRA is trained; the spread of its results shows the effect of the seed."""
    rank: PositiveInt = 8
    """Rank of the methods that have one."""
    ranks: Sizes = (1, 2, 4, 8, 16, 32)
    """Ranks of LoRA, one adaptation each."""
    dimensions: tuple[PositiveInt, ...] = (32, 128, 512, 2_048, 8_192)
    """Dimensions of SAID, one adaptation each, among which the intrinsic dimension is found; none:
    it is not measured."""
    context_factor: Annotated[Int, Field(ge=2)] = 4
    """Length of the context that LongLoRA extends to, as a multiple of the model's."""
    context_steps: NonNegativeInt = 100
    """Optimizer steps of each method that extends it; 0: it is not extended."""
    sample_tokens: PositiveInt = 60
    """Tokens of the samples before and after."""
    new_tokens: PositiveInt = 40
    """Tokens generated where the speed is measured."""
    repeats: PositiveInt = 3
    """Timed rounds after one that warms up."""
