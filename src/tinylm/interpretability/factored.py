"""A product of two matrices that is kept as its factors.

What a head does between two tokens is a matrix of the vocabulary squared, of a rank of no more than
head_dim: ``A B`` with A, (rows, rank), and B, (rank, columns). Trace, norm, eigenvalues, singular
values, single rows and columns follow from the factors; the large matrix is never built.

Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", section on
eigenvalues of low-rank matrices: those of ``A B`` that are not 0 are those of ``B A``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.errors import ConfigError

_ROWS = 256
"""Rows that are multiplied out at once."""


@dataclass(frozen=True)
class Entry:
    """One entry of a matrix."""

    row: int
    column: int
    value: float


@dataclass(frozen=True, eq=False)
class Factored:
    """``left @ right``, one matrix or a batch of them."""

    left: Tensor
    """(..., rows, rank)."""
    right: Tensor
    """(..., rank, columns)."""

    def __post_init__(self) -> None:
        """Refuse factors that cannot be multiplied.

        Raises:
            ConfigError: with both shapes.
        """
        if self.left.shape[-1] != self.right.shape[-2]:
            raise ConfigError(
                f"factors of shapes {tuple(self.left.shape)} and {tuple(self.right.shape)} "
                "cannot be multiplied: the last size of the first must be the second last of the "
                "other"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the product."""
        return self.left.shape[-2], self.right.shape[-1]

    @property
    def mT(self) -> Factored:  # noqa: N802, the name that torch has for it
        """The transposed product."""
        return Factored(self.right.mT, self.left.mT)

    def rows(self, which: Sequence[int] | Tensor) -> Tensor:
        """Return rows of the product, (..., which, columns)."""
        return self.left[..., torch.as_tensor(which), :] @ self.right

    def columns(self, which: Sequence[int] | Tensor) -> Tensor:
        """Return columns of the product, (..., rows, which)."""
        return self.left @ self.right[..., torch.as_tensor(which)]

    def diagonal(self) -> Tensor:
        """Return the diagonal of a square product, (..., rows)."""
        self._refuse_oblong()
        return (self.left * self.right.mT).sum(-1)

    def trace(self) -> Tensor:
        """Return the trace of a square product, (...)."""
        return self.diagonal().sum(-1)

    def norm(self) -> Tensor:
        """Return the Frobenius norm, (...)."""
        left, right = self._triangles()
        norm: Tensor = torch.linalg.matrix_norm(left @ right.mT)
        return norm

    def singular_values(self) -> Tensor:
        """Return the singular values that may be other than 0, the largest first, (..., rank)."""
        left, right = self._triangles()
        values: Tensor = torch.linalg.svdvals(left @ right.mT)
        return values

    def eigenvalues(self) -> Tensor:
        """Return the eigenvalues of a square product, less zeros, (..., rank), complex."""
        self._refuse_oblong()
        values: Tensor = torch.linalg.eigvals(self.right @ self.left)
        return values

    def largest(self, count: int) -> list[Entry]:
        """Return the largest entries of one matrix, the largest first."""
        kept: list[tuple[float, int, int]] = []
        columns = self.shape[1]
        for first in range(0, self.shape[0], _ROWS):
            block = (self.left[first : first + _ROWS] @ self.right).flatten()
            values, places = block.topk(min(count, len(block)))
            kept += [
                (value, first + place // columns, place % columns)
                for value, place in zip(values.tolist(), places.tolist(), strict=True)
            ]
        kept.sort(key=lambda entry: -entry[0])
        return [Entry(row, column, value) for value, row, column in kept[:count]]

    def _triangles(self) -> tuple[Tensor, Tensor]:
        """Return R of the QR decompositions of both factors: their product has the same norm.

        The norm from Gram matrices would lose half of the digits.
        """
        return torch.linalg.qr(self.left, mode="r").R, torch.linalg.qr(self.right.mT, mode="r").R

    def _refuse_oblong(self) -> None:
        rows, columns = self.shape
        if rows != columns:
            raise ConfigError(
                f"a product of {rows} rows and {columns} columns has no diagonal or eigenvalues: "
                "it must be square"
            )
