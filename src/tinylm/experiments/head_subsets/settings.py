"""The settings of the experiment on all subsets of heads."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Int, NonNegativeInt


@dataclass(frozen=True, config=FROZEN)
class HeadSubsetsExperiment:
    """Exact Shapley values of all heads, and cheaper methods graded by them."""

    behaviour: str = "holder"
    """Question of the story grammar: holder, sad, reason or colour."""
    pairs: Annotated[Int, Field(ge=2, le=500)] = 8
    """Pairs of prompts on which every subset of heads is run."""
    seed: NonNegativeInt = 0
    """Of the pairs."""
