"""How long a run is: steps of an epoch, of a run, and its validations."""

from __future__ import annotations

import math

from tinylm.config import TrainingConfig


def steps_per_epoch(config: TrainingConfig, num_windows: int) -> int:
    """Return the optimizer steps of an epoch, of which the last may be smaller."""
    return math.ceil(math.ceil(num_windows / config.batch_size) / config.accumulation_steps)


def total_steps(config: TrainingConfig, num_windows: int) -> int:
    """Return the optimizer steps of a run that is not stopped."""
    return config.max_steps or steps_per_epoch(config, num_windows) * config.epochs


def num_validations(config: TrainingConfig, num_windows: int) -> int:
    """Return how often a run validates that is not stopped: as settings say, and at its end."""
    steps = total_steps(config, num_windows)
    if config.validation_interval:
        return math.ceil(steps / config.validation_interval)
    if config.validations:
        return 1 + min(config.validations, steps)  # the first before any step
    return math.ceil(steps / steps_per_epoch(config, num_windows))
