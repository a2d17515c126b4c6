"""The settings of the experiment on quantization."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.registry import CORPORA
from tinylm.value_types import FROZEN, Int, NonNegativeInt, PositiveInt, one_of


@dataclass(frozen=True, config=FROZEN)
class QuantizationExperiment:
    """What weights and inputs in few bits cost, by method and calibration text."""

    windows: Annotated[Int, Field(ge=2)] = 64
    """Windows of the validation split on which perplexity is measured."""
    amounts: Annotated[tuple[PositiveInt, ...], Field(min_length=2)] = (1, 4, 16, 64)
    """Windows of the training split to calibrate by, from few to many; the most are taken wherever
    the amount is not what is tried."""
    bits: Literal[8, 4, 3, 2] = 3
    """Bits of a weight at which amounts and kinds of calibration text are tried."""
    other: Annotated[str, one_of(CORPORA)] = "letters"
    """Corpus whose texts are of another kind than the run's, to calibrate by as well."""
    seed: NonNegativeInt = 0
    """Of the choice of calibration windows, and of the texts that are made up."""
