"""The settings of the experiment on activation patching."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Int, NonNegativeInt


@dataclass(frozen=True, config=FROZEN)
class PatchingExperiment:
    """Activations of one prompt put into the run of another that differs in a word."""

    pairs: Annotated[Int, Field(ge=2)] = 40
    """Pairs of prompts of each behaviour that the model is asked."""
    pairs_path: str | None = None
    """A `.jsonl` file of pairs with the keys clean, corrupted, answer and wrong, in place of those
    of the story grammar."""
    seed: NonNegativeInt = 0
    """Seed of the pairs."""
