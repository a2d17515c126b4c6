"""Low-rank factorisation by the singular value decomposition (SVD).

A matrix W = U diag(s) V^T of ``rows x columns`` numbers is replaced by two factors of rank r,

    W_r = left @ right,   left = U_r diag(sqrt(s_r)),   right = diag(sqrt(s_r)) V_r^T,

which hold ``r (rows + columns)`` numbers. No matrix of rank r is nearer to W than W_r, in the
spectral norm (the error is s_{r+1}) and in the Frobenius norm (the error is the root of the tail's
sum of squares): Eckart and Young 1936; Mirsky 1960, theorem 2. If W has rank r, nothing is lost.
Storage falls only below the break-even rank ``rows * columns / (rows + columns)``, half of the full
rank for a square matrix.

Everything is computed in float64, whatever the matrix is stored in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.errors import AdapterError


@dataclass(frozen=True)
class Decomposition:
    """The SVD of a matrix, in float64."""

    left: Tensor
    """Left singular vectors, (rows, k), k the smaller of rows and columns."""
    values: Tensor
    """Singular values, (k,), largest first."""
    right: Tensor
    """Right singular vectors, (k, columns)."""

    @property
    def full_rank(self) -> int:
        """The largest rank that the matrix can have."""
        return len(self.values)

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """Return the two factors of the best approximation, (rows, rank) and (rank, columns).

        Each carries the roots of the singular values, so that neither is much larger than the
        other.

        Raises:
            AdapterError: for a rank that the matrix does not have.
        """
        if not 0 <= rank <= self.full_rank:
            raise AdapterError(
                f"rank {rank}: a matrix of {len(self.left)} x {self.right.shape[1]} has ranks "
                f"0 to {self.full_rank}"
            )
        roots = self.values[:rank].sqrt()
        return self.left[:, :rank] * roots, roots[:, None] * self.right[:rank]

    def truncated(self, rank: int) -> Tensor:
        """Return the best approximation of a rank, (rows, columns)."""
        left, right = self.factors(rank)
        return left @ right


def decompose(matrix: Tensor) -> Decomposition:
    """Return the SVD of a matrix, (rows, columns).

    Raises:
        AdapterError: if it is no matrix, is empty, or holds a number that is not finite.
    """
    if matrix.dim() != 2 or matrix.numel() == 0:
        raise AdapterError(
            f"a tensor of shape {tuple(matrix.shape)} has no factors: give a matrix, not empty"
        )
    if not torch.isfinite(matrix).all():
        raise AdapterError("a matrix with infinite or undefined numbers has no factors")
    left, values, right = torch.linalg.svd(matrix.detach().double(), full_matrices=False)
    return Decomposition(left, values, right)


def spectral_error(values: Tensor, rank: int) -> float:
    """Return the spectral norm of what the best approximation of a rank leaves out: s_{rank+1}.

    Args:
        values: singular values, largest first.
        rank: of the approximation.
    """
    return float(values[rank]) if rank < len(values) else 0.0


def frobenius_error(values: Tensor, rank: int) -> float:
    """Return the Frobenius norm of what the best approximation of a rank leaves out.

    Args:
        values: singular values, largest first.
        rank: of the approximation.
    """
    return float(values[rank:].norm())


def relative_error(values: Tensor, rank: int) -> float:
    """Return ``frobenius_error`` as a share of the matrix's own norm; 0 for a matrix of zeros."""
    whole = float(values.norm())
    return frobenius_error(values, rank) / whole if whole else 0.0


def numerical_rank(values: Tensor, rows: int, columns: int, dtype: torch.dtype) -> int:
    """Return how many singular values stand above rounding.

    The bound is that of numpy's ``matrix_rank``: the largest value times the larger side times the
    rounding unit of the format.

    Args:
        values: singular values, largest first.
        rows: of the matrix.
        columns: of the matrix.
        dtype: the format that the matrix is stored in.
    """
    bound = float(values[0]) * max(rows, columns) * torch.finfo(dtype).eps
    return int((values > bound).sum())


def effective_rank(values: Tensor) -> float:
    """Return exp of the entropy of the singular values' shares (Roy and Vetterli 2007).

    It is k for k equal values and lies between 1 and the rank otherwise; 0 for a matrix of zeros.

    Args:
        values: singular values, (k,).
    """
    whole = float(values.sum())
    if not whole:
        return 0.0
    shares = values[values > 0] / whole
    return float(torch.exp(-(shares * shares.log()).sum()))


def energy_rank(values: Tensor, share: float) -> int:
    """Return the smallest rank that holds a share of the sum of squared singular values.

    The relative Frobenius error at that rank is at most ``sqrt(1 - share)``.

    Args:
        values: singular values, largest first.
        share: between 0 and 1.
    """
    energy = values.square().cumsum(0)
    if not float(energy[-1]):
        return 0
    return int((energy < share * energy[-1]).sum()) + 1


def factor_parameters(rank: int, rows: int, columns: int) -> int:
    """Return the numbers that two factors hold: ``rank * (rows + columns)``."""
    return rank * (rows + columns)


def break_even_rank(rows: int, columns: int) -> float:
    """Return the rank from which two factors hold as many numbers as the matrix or more."""
    return rows * columns / (rows + columns)
