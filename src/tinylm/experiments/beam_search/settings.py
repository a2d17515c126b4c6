"""The settings of the experiment on beam search."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from tinylm.value_types import FROZEN, Float, PositiveInt, Sizes


@dataclass(frozen=True, config=FROZEN)
class BeamSearchExperiment:
    """Beam search compared with greedy decoding and sampling."""

    widths: Sizes = (5, 10)
    """Beam widths."""
    few_prompts: PositiveInt = 5
    """Validation prompts of the side-by-side comparison."""
    prompts: PositiveInt = 50
    """Validation prompts of the second comparison."""
    max_new_tokens: PositiveInt | None = None
    """Longest continuation; empty: what the context holds."""
    length_penalty: Float = 1.0
    """Exponent of the length that a hypothesis' log-probability is divided by."""
    repeats: PositiveInt = 3
    """Timed rounds after one that warms up."""
