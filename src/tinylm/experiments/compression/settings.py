"""The settings of the experiment on all ways of compression."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.config.searching import SearchConfig, Widths
from tinylm.registry import PRUNERS
from tinylm.value_types import FROZEN, Float, NonNegativeInt, PositiveInt, one_of


@dataclass(frozen=True, config=FROZEN)
class CompressionExperiment(SearchConfig):
    """Perplexity, bytes and time of every way to make the model smaller."""

    steps: NonNegativeInt = 150
    """Optimizer steps in which the run's model teaches what is left; 0: it is taken as it is."""
    widths: Widths = ((4, 8), (3, 8), (3, 4), (2, 4))
    """Bits of a weight, and of a weight of the embedding, that are tried beside one width for
    all."""
    combined: Widths = ((8, 8), (4, 8), (4, 4), (3, 4))
    """Bits of what is left where parts were removed; float32 is tried as well."""
    masks: Annotated[tuple[Annotated[str, one_of(PRUNERS)], ...], Field(min_length=1)] = (
        "magnitude",
        "wanda",
    )
    """Methods that hold weights at 0, which are tried as well."""
    masked: Annotated[Float, Field(gt=0, lt=1)] = 0.5
    """Share of the weights that they hold at 0."""
    tokens: PositiveInt = 128
    """Tokens of the text whose decoding is timed, or as many as the context holds."""
    repeats: Annotated[PositiveInt, Field(ge=2)] = 7
    """Timed rounds after one that warms up."""
