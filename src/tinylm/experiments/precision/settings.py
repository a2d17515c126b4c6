"""The settings of the experiment on number formats."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, PositiveInt


@dataclass(frozen=True, config=FROZEN)
class PrecisionExperiment:
    """The same training in float32 and in bfloat16."""

    steps: PositiveInt = 500
    """Optimizer steps of each training."""
    validation_windows: PositiveInt = 64
    """Windows of the validation split on which both are compared."""
