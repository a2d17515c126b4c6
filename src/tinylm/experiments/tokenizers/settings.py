"""The settings of the experiment on tokenizers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Int, NonNegativeInt, PositiveFloat, PositiveInt, Sizes

UNSEEN = ("unhelpful", "giraffes", "snowmobiles", "Zürich")
"""Words that the embedded stories do not have."""


@dataclass(frozen=True, config=FROZEN)
class TokenizersExperiment:
    """The same training budget with each tokenizer."""

    sizes: Sizes = (512, 2_048)
    """Vocabularies of each tokenizer that has a size, the special tokens included."""
    flops: PositiveFloat = 5e11
    """FLOPs of forward and backward passes of each training."""
    num_layers: PositiveInt = 2
    """Layers of every model."""
    num_heads: PositiveInt = 4
    """Heads of every layer."""
    hidden_size: PositiveInt = 64
    """Width of every model."""
    context_length: Annotated[Int, Field(ge=2)] = 128
    """Tokens that a model sees at once, whatever they are."""
    batch_size: PositiveInt = 4
    """Windows in a batch."""
    learning_rate: PositiveFloat = 3e-3
    """Peak learning rate; it is warmed up over a twentieth of the steps and ends at a tenth."""
    held_out: Annotated[Int, Field(ge=1)] = 100
    """Validation texts that are scored."""
    fitted: PositiveInt = 500
    """Training texts from which the cost of what tokens leave out is learned."""
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
    seeds: PositiveInt = 3
    """Repetitions, each with other weights and another order."""
    seed: NonNegativeInt = 0
    """The first of them."""
