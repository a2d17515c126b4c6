"""The settings of the leaderboard of models and tokenizers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.experiments.budget import Budget, Size
from tinylm.value_types import FROZEN, Int, PositiveFloat, PositiveInt


@dataclass(frozen=True, config=FROZEN)
class LeaderboardExperiment(Budget):
    """Every kind of model with every tokenizer, at the same training budget."""

    vocab_size: Size = 1_024
    """Vocabulary of each tokenizer that has a size, the special tokens included; 260 at least."""
    flops: PositiveFloat = 6e10
    """FLOPs of forward and backward passes of each training."""
    hidden_size: PositiveInt = 32
    """Width of the decoder; other kinds have that at which a token costs as many FLOPs."""
    held_out: Annotated[Int, Field(ge=1)] = 60
    """Validation texts whose rest after the first sentence is scored."""
    fitted: PositiveInt = 300
    """Training texts from which the cost of what tokens leave out is learned."""
