"""Checks of a run's own model and data, one a file: a clever path beside its naive version.

A check is a function ``run(subject) -> Finding``, or None where a kind of model has no part that it
could check. It leaves weights, mode, and torch's random state
as they were; what it changes is a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinylm.config import RunConfig
from tinylm.data.token_files import TokenFile
from tinylm.language_model import LanguageModel


@dataclass(frozen=True)
class Subject:
    """What is checked: a trained model, how it was trained, and its data."""

    lm: LanguageModel
    """The model and its tokenizer, on the run's device."""
    config: RunConfig
    """The run's configuration."""
    train: TokenFile
    """The training split in the tokenizer's ids."""
    validation: TokenFile
    """The validation split in the tokenizer's ids."""
    folder: Path
    """A temporary folder to write to."""
    seed: int = 0
    """Seed of whatever a check draws."""


@dataclass(frozen=True)
class Finding:
    """What a check compared and how far apart the two sides were."""

    compared: str
    """One side, against the other, and in brackets how they are compared."""
    cases: int
    """How many things were compared."""
    unit: str
    """What a case is, in the plural."""
    difference: float
    """The largest difference; infinite where the two sides cannot be compared at all."""
    bound: float
    """The largest difference that passes. Fixed, since nothing but rounding may make the two sides
    differ: 1e-10 and 1e-9 in float64, 1e-5 in float32, 0 where every bit must agree."""
    note: str = ""
    """What a reader should know besides."""

    @property
    def passed(self) -> bool:
        """Whether something was compared and no difference is above the bound; NaN never passes."""
        return self.cases > 0 and self.difference <= self.bound
