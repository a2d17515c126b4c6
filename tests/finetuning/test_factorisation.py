"""Factorisation by SVD: exact where it can be, the best there is elsewhere, counted rightly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tinylm.errors import AdapterError
from tinylm.finetuning.factorisation import (
    break_even_rank,
    decompose,
    effective_rank,
    energy_rank,
    factor_parameters,
    frobenius_error,
    numerical_rank,
    relative_error,
    spectral_error,
)

SIZES = st.integers(1, 12)


def random_matrix(rows: int, columns: int, seed: int, rank: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if rank is None:
        return torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    left = torch.randn(rows, rank, generator=generator, dtype=torch.float64)
    return left @ torch.randn(rank, columns, generator=generator, dtype=torch.float64)


@given(SIZES, SIZES, st.integers(0, 99), st.data())
def test_a_matrix_of_rank_r_is_recovered_from_two_factors(
    rows: int, columns: int, seed: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, min(rows, columns)))
    matrix = random_matrix(rows, columns, seed, rank)
    left, right = decompose(matrix).factors(rank)
    assert left.shape == (rows, rank)
    assert right.shape == (rank, columns)
    torch.testing.assert_close(left @ right, matrix, rtol=1e-9, atol=1e-9)
    # Both factors carry the roots, so their columns and rows have the same norms.
    torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1), rtol=1e-9, atol=1e-9)


@given(SIZES, SIZES, st.integers(0, 99), st.data())
def test_the_errors_are_those_of_eckart_and_young(
    rows: int, columns: int, seed: int, data: st.DataObject
) -> None:
    matrix = random_matrix(rows, columns, seed)
    factors = decompose(matrix)
    rank = data.draw(st.integers(0, min(rows, columns)))
    rest = (matrix - factors.truncated(rank)).numpy()
    reference = np.linalg.svd(matrix.numpy(), compute_uv=False)
    np.testing.assert_allclose(factors.values.numpy(), reference, rtol=1e-10, atol=1e-12)
    assert spectral_error(factors.values, rank) == pytest.approx(np.linalg.norm(rest, 2), abs=1e-9)
    frobenius = np.linalg.norm(rest)
    assert frobenius_error(factors.values, rank) == pytest.approx(frobenius, abs=1e-9)
    share = frobenius / np.linalg.norm(matrix.numpy())
    assert relative_error(factors.values, rank) == pytest.approx(share, abs=1e-9)


@given(st.integers(2, 8), st.integers(2, 8), st.integers(0, 99), st.data())
def test_no_random_competitor_of_that_rank_is_nearer(
    rows: int, columns: int, seed: int, data: st.DataObject
) -> None:
    matrix = random_matrix(rows, columns, seed)
    rank = data.draw(st.integers(1, min(rows, columns)))
    values = decompose(matrix).values
    frobenius, spectral = frobenius_error(values, rank), spectral_error(values, rank)
    best = decompose(matrix).truncated(rank)
    for other in range(5):
        base = random_matrix(rows, rank, 1000 + 7 * seed + other)
        competitors = [
            base @ torch.linalg.lstsq(base, matrix).solution,  # the best for a random column space
            random_matrix(rows, columns, 2000 + other, rank),
        ]
        # Near the optimum as well: the best approximation, its own factors shaken a little.
        left, right = decompose(matrix).factors(rank)
        shaken = left + 1e-3 * random_matrix(rows, rank, 3000 + other)
        competitors.append(shaken @ right)
        for competitor in competitors:
            assert torch.linalg.matrix_norm(matrix - competitor) >= frobenius - 1e-9
            assert torch.linalg.matrix_norm(matrix - competitor, 2) >= spectral - 1e-9
    assert torch.linalg.matrix_rank(best) <= rank


def test_gradient_descent_on_two_factors_ends_at_the_same_error() -> None:
    """The optimum found without any SVD: alternating least squares from a random start."""
    matrix = random_matrix(9, 6, 3)
    left = random_matrix(9, 2, 4)
    for _ in range(400):
        right = torch.linalg.lstsq(left, matrix).solution
        left = torch.linalg.lstsq(right.T, matrix.T).solution.T
    factors = decompose(matrix)
    assert float((matrix - left @ right).norm()) == pytest.approx(
        frobenius_error(factors.values, 2)
    )
    torch.testing.assert_close(left @ right, factors.truncated(2), rtol=1e-6, atol=1e-6)


def test_effective_rank_of_known_spectra() -> None:
    assert effective_rank(torch.tensor([3.0, 3.0, 3.0, 3.0])) == pytest.approx(4)
    assert effective_rank(torch.tensor([5.0, 0.0, 0.0])) == pytest.approx(1)
    assert effective_rank(torch.zeros(3)) == 0
    # Shares 1/2, 1/4, 1/4: entropy 1.5 ln 2. With squared values it would be another number.
    assert effective_rank(torch.tensor([4.0, 2.0, 2.0])) == pytest.approx(2**1.5)
    assert effective_rank(torch.tensor([40.0, 20.0, 20.0])) == pytest.approx(2**1.5)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12))
def test_effective_rank_lies_between_one_and_the_rank(values: list[float]) -> None:
    rank = effective_rank(torch.tensor(sorted(values, reverse=True), dtype=torch.float64))
    assert 1 - 1e-9 <= rank <= len(values) + 1e-9


def test_energy_rank_of_a_known_spectrum() -> None:
    values = torch.tensor([3.0, 2.0, 1.0, 1.0, 1.0], dtype=torch.float64)  # squares 9 4 1 1 1
    shares = (0.5, 9 / 16, 0.57, 13 / 16, 0.9, 1.0)
    assert [energy_rank(values, share) for share in shares] == [1, 1, 2, 2, 4, 5]
    assert energy_rank(torch.zeros(4), 0.9) == 0
    for share in (0.3, 0.9, 0.99):
        rank = energy_rank(values, share)
        assert relative_error(values, rank) <= math.sqrt(1 - share) + 1e-12
        assert relative_error(values, rank - 1) > math.sqrt(1 - share)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numerical_rank_is_that_of_numpy(dtype: torch.dtype) -> None:
    for rank in (0, 1, 3, 7):
        matrix = random_matrix(11, 7, rank, rank).to(dtype)
        values = decompose(matrix).values
        assert numerical_rank(values, 11, 7, dtype) == np.linalg.matrix_rank(matrix.numpy()) == rank


def test_parameters_and_the_break_even_rank() -> None:
    assert factor_parameters(4, 120, 120) == 960
    assert break_even_rank(120, 120) == 60
    assert break_even_rank(300, 1200) == 240
    for rows, columns in ((7, 5), (128, 384), (1975, 128)):
        limit = break_even_rank(rows, columns)
        for rank in range(1, min(rows, columns) + 1):
            saves = factor_parameters(rank, rows, columns) < rows * columns
            assert saves == (rank < limit)


def test_half_precision_is_decomposed_in_float64() -> None:
    factors = decompose(torch.randn(4, 3).bfloat16().requires_grad_())
    assert factors.left.dtype == factors.values.dtype == factors.right.dtype == torch.float64
    assert not factors.truncated(2).requires_grad


@pytest.mark.parametrize(
    ("matrix", "told"),
    [
        (torch.zeros(3), "shape (3,)"),
        (torch.zeros(0, 4), "shape (0, 4)"),
        (torch.tensor([[1.0, math.nan]]), "infinite or undefined"),
        (torch.tensor([[1.0, math.inf]]), "infinite or undefined"),
    ],
)
def test_what_cannot_be_decomposed_is_told(matrix: Tensor, told: str) -> None:
    with pytest.raises(AdapterError) as error:
        decompose(matrix)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rank", [-1, 4])
def test_a_rank_that_is_not_there_is_told(rank: int) -> None:
    with pytest.raises(AdapterError, match=f"rank {rank}: a matrix of 5 x 3 has ranks 0 to 3"):
        decompose(random_matrix(5, 3, 0)).factors(rank)
