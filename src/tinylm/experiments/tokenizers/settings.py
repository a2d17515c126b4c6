"""The settings of the experiment on tokenizers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.experiments.budget import Budget, Size
from tinylm.value_types import FROZEN, Int, PositiveFloat, PositiveInt

UNSEEN = ("unhelpful", "giraffes", "snowmobiles", "Zürich")
"""Words that the embedded stories do not have."""


@dataclass(frozen=True, config=FROZEN)
class TokenizersExperiment(Budget):
    """The same training budget with each tokenizer."""

    sizes: Annotated[tuple[Size, ...], Field(min_length=1)] = (512, 2_048)
    """Vocabularies of each tokenizer that has a size, the special tokens included; 260 at least."""
    flops: PositiveFloat = 5e11
    """FLOPs of forward and backward passes of each training."""
    unseen: tuple[Annotated[str, Field(pattern=r"^\S+$", max_length=30)], ...] = UNSEEN
    """Words whose cuts are shown; those that stand in the training text are left out."""
    summed: PositiveInt = 20
    """Beginnings of held-out texts whose probability is summed over all segmentations."""
    prefixes: Annotated[Int, Field(ge=2)] = 2_000
    """Most prefixes that such a sum may have; beginnings are as long as that allows."""
    new_tokens: PositiveInt = 64
    """Tokens generated in each timing."""
    rounds: Annotated[Int, Field(ge=2)] = 5
    """Timings of each."""
