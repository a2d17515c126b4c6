"""The settings of the experiment on circuits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Float, Int, NonNegativeInt, PositiveInt


@dataclass(frozen=True, config=FROZEN)
class CircuitExperiment:
    """The fewest connections that answer a question as the whole model does."""

    behaviours: Annotated[tuple[str, ...], Field(min_length=1)] = ("holder", "reason")
    """Questions of the story grammar: holder, sad, reason or colour."""
    pairs: Annotated[Int, Field(ge=2, le=500)] = 16
    """Pairs of prompts that the connections are found on, and as many that they are judged on."""
    steps: PositiveInt = 5
    """Points between the corrupted and the clean run at which the gradient is taken."""
    faithfulness: Annotated[Float, Field(gt=0, le=1)] = 0.9
    """Share of the whole model's difference that the circuit must reach."""
    random: Annotated[Int, Field(ge=2)] = 10
    """Random subgraphs of as many connections, to compare with."""
    seed: NonNegativeInt = 0
    """Of the pairs and the random subgraphs."""
