"""The settings of the quantization methods, one dataclass a method."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.config.effects import Is, UsedWith
from tinylm.config.finetuning import Targets
from tinylm.config.pruning import Calibrated
from tinylm.value_types import FROZEN, Float, PositiveFloat, PositiveInt


@dataclass(frozen=True, config=FROZEN)
class Inputs(Calibrated):
    """How the inputs of quantized maps are rounded, whatever their weights are rounded by."""

    used_with: ClassVar[UsedWith] = {
        "windows": (Is("activations", "static"),),
        "calibration_seed": (Is("activations", "static"),),
        "activation_range": (Is("activations", "static"),),
        "percentile": (Is("activation_range", "percentile"),),
    }

    activations: Literal["float", "dynamic", "static"] = "float"
    """float: inputs of quantized maps stay as they are; dynamic: they are rounded to 8 bits by the
    range of each row; static: by one range a map, chosen from texts of the training split."""
    activation_range: Literal["min-max", "percentile", "mse", "entropy"] = "mse"
    """How the range of activations=static is chosen: all that the texts hold (min-max), all but the
    outermost values (percentile), the least error of the values (mse), or the least divergence of
    their distribution (entropy)."""
    percentile: Annotated[Float, Field(gt=0, le=100)] = 99.99
    """Of the values that activation_range=percentile keeps, in per cent."""


@dataclass(frozen=True, config=FROZEN)
class RoundingConfig(Inputs):
    """Every weight to the nearest whole number of its group's scale (RTN)."""

    used_with: ClassVar[UsedWith] = {
        **Inputs.used_with,
        "group_size": (Is("granularity", "group"),),
    }

    bits: Literal[8, 4, 3, 2] = 4
    """Bits of a weight."""
    embedding_bits: Literal[8, 4, 3, 2] | None = None
    """Bits of a weight of the embedding, and of the output layer where that is the same weight;
    empty: as the others."""
    symmetric: bool = False
    """true: codes lie about 0; false: they are spread over the range of the weights, with a code
    for 0."""
    granularity: Literal["tensor", "row", "group"] = "group"
    """Weights that share a scale: all of a matrix (tensor), a row (one output of a map), or a run
    of a row (group)."""
    group_size: PositiveInt | None = None
    """Inputs of a group; it divides the rows of all targets. Empty: of each map the divisor of its
    rows that is nearest to 32."""
    scale_format: Literal["float32", "bfloat16"] = "bfloat16"
    """Number format of the scales."""
    targets: Targets = ("*",)
    """Linear maps, and the embedding, that are quantized: paths or their ends, with * for
    anything."""


@dataclass(frozen=True, config=FROZEN)
class NormalFloatConfig(Inputs):
    """4-bit NormalFloat (Dettmers et al. 2023)."""

    bits: Literal[4] = 4
    """Bits of a weight: there is NormalFloat of 4 alone."""
    block_size: PositiveInt = 64
    """Weights that share a scale."""
    double_quantization: bool = True
    """Quantize the scales as well, to 8 bits."""
    targets: Targets = ("*",)
    """Linear maps, and the embedding, that are quantized: paths or their ends, with * for
    anything."""


_ALWAYS_READS: UsedWith = {
    name: conditions
    for name, conditions in RoundingConfig.used_with.items()
    if name not in ("windows", "calibration_seed")
}


@dataclass(frozen=True, config=FROZEN)
class GptqConfig(RoundingConfig):
    """The error of each column is carried to those after it (Frantar et al. 2023)."""

    used_with: ClassVar[UsedWith] = _ALWAYS_READS

    windows: PositiveInt = 128
    """Windows of the training split that it reads."""
    damping: PositiveFloat = 0.01
    """What is added to the diagonal of the Hessian, as a share of its mean."""
    order: Literal["activity", "given"] = "activity"
    """activity: columns with the largest inputs are rounded first; given: as they stand, with the
    scales of a group fitted when it is reached."""
    after_quantized: bool = False
    """Read the texts anew for each map, through the quantized maps before it."""


@dataclass(frozen=True, config=FROZEN)
class AwqConfig(RoundingConfig):
    """Columns with large inputs are made larger before rounding (Lin et al. 2024)."""

    used_with: ClassVar[UsedWith] = _ALWAYS_READS

    windows: PositiveInt = 128
    """Windows of the training split that it reads."""
    clip: bool = True
    """Search for a narrower range of each group as well."""


@dataclass(frozen=True, config=FROZEN)
class SmoothQuantConfig(RoundingConfig):
    """Inputs are made easier to round at the weights' expense (Xiao et al. 2023)."""

    used_with: ClassVar[UsedWith] = _ALWAYS_READS

    bits: Literal[8, 4, 3, 2] = 8
    """Bits of a weight."""
    granularity: Literal["tensor", "row", "group"] = "row"
    """Weights that share a scale: all of a matrix (tensor), a row (one output of a map), or a run
    of a row (group)."""
    activations: Literal["float", "dynamic", "static"] = "static"
    """float: inputs of quantized maps stay as they are; dynamic: they are rounded to 8 bits by the
    range of each row; static: by one range a map, chosen from texts of the training split."""
    strength: Annotated[Float, Field(ge=0, le=1)] = 0.5
    """How much of the difficulty goes to the weights: 0 is none, 1 all of it."""
