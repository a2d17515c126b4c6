"""How many numbers LoRA trains in place of a matrix, and which rank gives a wanted reduction.

A matrix of m x n weights takes ``r (m + n)`` numbers at rank r (Hu et al. 2021, section 4.1):
120 x 120 = 14,400 weights against 240 r, so that rank 4 trains a fifteenth of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tinylm.errors import ConfigError, shown

Shape = tuple[int, int]


@dataclass(frozen=True)
class LoraPlan:
    """One matrix and its low-rank update."""

    shape: Shape
    """(out, in)."""
    rank: int

    @property
    def weights(self) -> int:
        """Numbers in the matrix."""
        return self.shape[0] * self.shape[1]

    @property
    def trained(self) -> int:
        """Numbers in both factors."""
        return self.rank * sum(self.shape)

    @property
    def reduction(self) -> float:
        """How many times fewer numbers are trained."""
        return self.weights / self.trained


def plan_lora(
    shapes: Mapping[str, Shape], reduction: float | None = None, rank: int | None = None
) -> dict[str, LoraPlan]:
    """Plan one rank for several matrices.

    Args:
        shapes: name -> (out, in).
        reduction: wanted for all of them together; the rank is the largest that reaches it.
        rank: in place of a reduction.

    Raises:
        ConfigError: if the reduction cannot be reached, a matrix cannot have the rank, or not just
            one of both is given.
    """
    if (reduction is None) == (rank is None):
        raise ConfigError("give either a reduction (such as 15) or a rank (such as 4)")
    if rank is None:
        assert reduction is not None
        weights = sum(out * width for out, width in shapes.values())
        numbers = sum(out + width for out, width in shapes.values())
        rank = math.floor(weights / (reduction * numbers) * (1 + 1e-12))
        if rank < 1:
            raise ConfigError(
                f"reduction {reduction:g} cannot be reached: rank 1 trains {numbers:,} numbers in "
                f"place of {weights:,}; ask for {weights / numbers:.4g} or less"
            )
        rank = min(rank, *(min(shape) for shape in shapes.values()))
    for name, shape in shapes.items():
        if rank > min(shape):
            raise ConfigError(
                f"rank {rank}: {name} is {shape[0]} x {shape[1]} and has rank {min(shape)} at most"
            )
    return {name: LoraPlan(shape, rank) for name, shape in shapes.items()}


def read_shape(text: str) -> Shape:
    """Return the shape that ``120x120`` (or ``120*120``, ``120×120``) means.

    Raises:
        ConfigError: if it means none.
    """
    parts = text.lower().replace("×", "x").replace("*", "x").split("x")
    try:
        rows, columns = (int(part) for part in parts)
    except ValueError:
        rows = columns = 0
    if rows < 1 or columns < 1:
        raise ConfigError(f"shape {shown(text)} is none: write rows x columns, such as 120x120")
    return rows, columns
