"""The settings of the experiment on gradient accumulation."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, PositiveFloat, PositiveInt, Sizes


@dataclass(frozen=True, config=FROZEN)
class AccumulationExperiment:
    """Training with gradients accumulated over several mini-batches."""

    batch_size: PositiveInt = 16
    """Windows in a mini-batch."""
    steps: Sizes = (1, 2, 4, 8)
    """Mini-batches per optimizer step, one training each."""
    epochs: PositiveInt = 1
    """Passes over the training windows, unless windows is set."""
    windows: PositiveInt | None = None
    """Train on this many windows in all instead, the same for every training."""
    learning_rate: PositiveFloat | None = None
    """Constant learning rate of all of them; empty: training.learning_rate."""
