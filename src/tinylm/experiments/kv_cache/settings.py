"""The settings of the experiment on the key-value cache."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Int, PositiveInt


@dataclass(frozen=True, config=FROZEN)
class KVCacheExperiment:
    """Generation with and without a key-value cache."""

    samples: PositiveInt = 20
    """Texts generated as one batch."""
    length: Annotated[Int, Field(ge=16)] = 256
    """Tokens generated where the cost of each step is followed; the model is built with a context
    that holds them, its weights left at their start, since the cost does not depend on them."""
    repeats: PositiveInt = 3
    """Timed rounds after one that warms up."""
