"""The settings of the quantization methods, one dataclass a method."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.config.pruning import Calibrated
from tinylm.value_types import FROZEN, PositiveInt

Targets = Annotated[tuple[str, ...], Field(min_length=1)]


@dataclass(frozen=True, config=FROZEN)
class Inputs(Calibrated):
    """How the inputs of quantized maps are rounded, whatever their weights are rounded by."""

    activations: Literal["float", "dynamic", "static"] = "float"
    """float: inputs of quantized maps stay as they are; dynamic: they are rounded to 8 bits by the
    range of each row; static: by one range a map, chosen from texts of the training split."""
    activation_range: Literal["min-max", "percentile", "mse", "entropy"] = "mse"
    """How the range of activations=static is chosen."""

    @property
    def reads_texts(self) -> bool:
        """Whether texts are needed to calibrate by."""
        return self.activations == "static"


@dataclass(frozen=True, config=FROZEN)
class RoundingConfig(Inputs):
    """Every weight to the nearest whole number of its group's scale (RTN)."""

    bits: Literal[8, 4, 3, 2] = 4
    """Bits of a weight."""
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
