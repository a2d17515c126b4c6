"""What a number format of weights is: how a matrix is kept, and what is kept of it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

import torch
from torch import Tensor


class WeightFormat(Protocol):
    """A number format of matrices: a frozen dataclass whose fields are JSON values."""

    kind: ClassVar[str]
    """Its name in a file (``quantized.FORMATS``)."""

    @property
    def label(self) -> str:
        """What it is, for a reader."""
        ...

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """Return what is kept of a weight, (out, in), by name.

        Raises:
            ConfigError: if the format does not suit the shape.
        """
        ...

    def dequantize(self, stored: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Return what ``quantize`` kept as a weight again: of a shape, float32 at least."""
        ...

    def rows(self, stored: Mapping[str, Tensor], shape: torch.Size, rows: Tensor) -> Tensor:
        """Return some rows of the weight, (n, in), by their numbers, (n,), int64."""
        ...

    def num_bytes(self, shape: torch.Size) -> int:
        """Return the bytes of all that ``quantize`` keeps of a weight of a shape."""
        ...
