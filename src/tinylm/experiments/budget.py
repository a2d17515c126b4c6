"""The settings of experiments in which every training has the same budget of FLOPs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Int, NonNegativeInt, PositiveFloat, PositiveInt

Size = Annotated[Int, Field(ge=260, le=1 << 20)]
"""Of a vocabulary that has room for the special tokens and all bytes."""


@dataclass(frozen=True, config=FROZEN)
class Budget:
    """A training budget, and the sizes of the models that are trained with it."""

    flops: PositiveFloat = 1e11
    """FLOPs of forward and backward passes of each training."""
    num_layers: PositiveInt = 2
    """Layers of every model."""
    num_heads: PositiveInt = 4
    """Heads of every layer, where there are any."""
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
    seeds: PositiveInt = 3
    """Repetitions, each with other weights and another order."""
    seed: NonNegativeInt = 0
    """The first of them."""
