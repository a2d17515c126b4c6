"""The settings of the experiment on ZeRO."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, NonNegativeInt, PositiveFloat, PositiveInt

Ranks = Annotated[PositiveInt, Field(le=16)]
MicroBatches = Annotated[PositiveInt, Field(le=64)]


@dataclass(frozen=True, config=FROZEN)
class ZeroExperiment:
    """A small decoder, trained on random tokens by every stage of ZeRO."""

    ranks: Annotated[tuple[Ranks, ...], Field(min_length=1, max_length=4)] = (1, 2, 4)
    """Processes that share its states out: up to four numbers, each 16 at most."""
    micro_batches: Annotated[tuple[MicroBatches, ...], Field(min_length=1, max_length=4)] = (1, 3)
    """Of a step, on each rank: up to four numbers; what is sent depends on them."""
    batch_size: PositiveInt = 2
    """Rows of a micro-batch; how many of their tokens are targets differs from rank to rank."""
    steps: Annotated[PositiveInt, Field(ge=2)] = 3
    """Optimizer steps; what is held and sent is that of the last."""
    learning_rate: PositiveFloat = 1e-3
    """Of Adam, constant."""
    num_layers: PositiveInt = 3
    """Decoder layers."""
    hidden_size: PositiveInt = 64
    """Width of the decoder."""
    num_heads: PositiveInt = 4
    """Heads of each layer."""
    vocab_size: Annotated[PositiveInt, Field(ge=5)] = 1_001
    """Vocabulary; an odd one, so that its numbers do not divide by the ranks."""
    context_length: PositiveInt = 16
    """Tokens of a row."""
    seed: NonNegativeInt = 0
    """Of the weights and the tokens."""
