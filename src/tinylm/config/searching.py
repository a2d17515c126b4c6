"""The settings of a search for a smaller model, and of the experiment that shows all of them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.config.effects import IsNot, UsedWith
from tinylm.registry import DISTILLATIONS, PRUNERS, QUANTIZERS
from tinylm.value_types import FROZEN, Float, NonNegativeInt, PositiveFloat, PositiveInt, one_of

Width = Literal[8, 4, 3, 2]
Widths = Annotated[tuple[tuple[Width, Width], ...], Field(min_length=1)]


@dataclass(frozen=True, config=FROZEN)
class SearchConfig:
    """What is tried: shares of the parts that go, training, and bits."""

    used_with: ClassVar[UsedWith] = {
        "parts": (IsNot("shares", ()),),
        "steps": (IsNot("shares", ()),),
        "distillation": (IsNot("steps", 0),),
        "rate": (IsNot("steps", 0),),
    }

    parts: Annotated[tuple[Annotated[str, one_of(PRUNERS)], ...], Field(min_length=1)] = (
        "heads",
        "neurons",
    )
    """What is removed together, the same share of each: heads, neurons, layers."""
    shares: tuple[Annotated[Float, Field(gt=0, lt=1)], ...] = (0.25, 0.5, 0.75)
    """Of the parts, that go; the whole model is tried as well."""
    steps: NonNegativeInt = 300
    """Optimizer steps in which the run's model teaches what is left; 0: it is taken as it is."""
    distillation: Annotated[str, one_of(DISTILLATIONS)] = "word"
    """How it teaches."""
    rate: PositiveFloat = 0.5
    """Learning rate of these steps, as a multiple of the run's."""
    method: Annotated[str, one_of(QUANTIZERS)] = "gptq"
    """How weights are rounded."""
    widths: Widths = ((8, 8), (4, 8), (4, 4), (3, 8), (3, 4), (3, 3), (2, 8), (2, 4), (2, 2))
    """Bits of a weight, and of a weight of the embedding; weights as they are, in float32, are
    tried as well."""
    calibration: PositiveInt = 64
    """Windows of the training split that pruning and rounding read."""
    windows: Annotated[PositiveInt, Field(ge=2)] = 60
    """Windows of the validation split that decide; as many others tell what came of it."""
    seed: NonNegativeInt = 0
    """Of the choice of texts, and of training."""
