"""The settings of the experiment on gradient checkpointing."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, NonNegativeInt, PositiveInt, Sizes


@dataclass(frozen=True, config=FROZEN)
class GradientCheckpointingExperiment:
    """Training with activations recomputed in the backward pass."""

    depths: Sizes = (3, 6, 12)
    """Decoder layers."""
    context_lengths: Sizes = (64, 128, 256)
    """Context lengths; the depth is then the smallest of the depths and every other size the
    run's own."""
    segments: Sizes = (1, 3)
    """Layers per segment, each compared with training without recomputation."""
    tokens_per_batch: NonNegativeInt = 0
    """Tokens in a batch, the same for every context length; 0: those of a batch of the run."""
    repeats: PositiveInt = 5
    """Timed rounds after one that warms up."""
