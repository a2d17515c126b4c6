"""The settings of the experiment on fine-tuning with few parameters."""

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
    """Times that LoRA is trained, which shows what random numbers do to a result."""
    rank: PositiveInt = 8
    """Rank of the methods that have one."""
    ranks: Sizes = (1, 2, 4, 8, 16, 32)
    """Ranks of LoRA, one adaptation each."""
    dimensions: tuple[PositiveInt, ...] = (32, 128, 512, 2_048, 8_192)
    """Dimensions of SAID, one adaptation each, in which the intrinsic one is looked for; none:
    it is not looked for."""
    context_factor: Annotated[Int, Field(ge=2)] = 4
    """LongLoRA extends the context so many times."""
    context_steps: NonNegativeInt = 100
    """Optimizer steps of each way of extending it; 0: it is not extended."""
    sample_tokens: PositiveInt = 60
    """Tokens of the samples before and after."""
    new_tokens: PositiveInt = 40
    """Tokens generated where the speed is measured."""
    repeats: PositiveInt = 3
    """Timed rounds after one that warms up."""
