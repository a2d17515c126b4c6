"""The settings of the leaderboard of models and tokenizers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Int, NonNegativeInt, PositiveFloat, PositiveInt


@dataclass(frozen=True, config=FROZEN)
class LeaderboardExperiment:
    """Every kind of model with every tokenizer, at the same training budget."""

    vocab_size: PositiveInt = 1_024
    """Vocabulary of each tokenizer that has a size, the special tokens included."""
    flops: PositiveFloat = 6e10
    """FLOPs of forward and backward passes of each training."""
    num_layers: PositiveInt = 2
    """Layers of every model."""
    num_heads: PositiveInt = 4
    """Heads of every layer, where there are any."""
    hidden_size: PositiveInt = 32
    """Width of the decoder; other kinds have that at which a token costs as many FLOPs."""
    context_length: Annotated[Int, Field(ge=2)] = 128
    """Tokens that a model sees at once."""
    batch_size: PositiveInt = 4
    """Windows in a batch."""
    learning_rate: PositiveFloat = 3e-3
    """Peak learning rate; it is warmed up over a twentieth of the steps and ends at a tenth."""
    held_out: Annotated[Int, Field(ge=1)] = 60
    """Validation texts whose rest after the first sentence is scored."""
    fitted: PositiveInt = 300
    """Training texts from which the cost of what tokens leave out is learned."""
    seeds: PositiveInt = 3
    """Repetitions, each with other weights and another order."""
    seed: NonNegativeInt = 0
    """The first of them."""
