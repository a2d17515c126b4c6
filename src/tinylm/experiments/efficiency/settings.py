"""The settings of the experiment on costs, planned and measured."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, PositiveInt, Sizes


@dataclass(frozen=True, config=FROZEN)
class EfficiencyExperiment:
    """What a training step and generation cost, planned and measured, and how the cost grows.

    One size is varied at a time; the others are the run's own.
    """

    batch_sizes: Sizes = (8, 16, 32, 64)
    """Windows in a batch."""
    context_lengths: Sizes = (32, 64, 128, 256)
    """Context lengths."""
    depths: Sizes = (1, 2, 4, 8)
    """Decoder layers."""
    vocabularies: Sizes = (2_000, 4_000, 8_000, 16_000)
    """Vocabulary sizes."""
    repeats: PositiveInt = 5
    """Timed rounds after two that warm up."""
