"""The settings of the experiment on attention heads."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Int


@dataclass(frozen=True, config=FROZEN)
class AttentionExperiment:
    """What every attention head does, and what it is worth."""

    stories: Annotated[Int, Field(ge=2)] = 100
    """Validation stories on which heads are measured and switched off, each cut to the context."""
