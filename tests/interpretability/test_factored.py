"""What follows from the factors of a product is what the product has."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformer_lens import FactoredMatrix

from tests.model.helpers import largest_difference
from tinylm.errors import ConfigError
from tinylm.interpretability.factored import Factored


def factored(rows: int, rank: int, columns: int, seed: int, *batch: int) -> Factored:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(*batch, rows, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(*batch, rank, columns, generator=generator, dtype=torch.float64)
    return Factored(left, right)


@settings(max_examples=40, deadline=None)
@given(*(st.integers(1, 9) for _ in range(3)), st.integers(0, 9))
def test_it_is_the_product_and_transformer_lens_s(
    rows: int, rank: int, columns: int, seed: int
) -> None:
    ours = factored(rows, rank, columns, seed, 2)
    whole, theirs = ours.left @ ours.right, FactoredMatrix(ours.left, ours.right)
    values = torch.linalg.svdvals(whole)
    count = min(values.shape[-1], rank)
    assert ours.shape == whole.shape[1:]
    assert largest_difference(ours.norm(), torch.linalg.matrix_norm(whole)) < 1e-12
    assert largest_difference(ours.norm(), theirs.norm()) < 1e-12
    assert largest_difference(ours.singular_values()[:, :count], values[:, :count]) < 1e-12
    which = [rows - 1, 0]
    assert largest_difference(ours.rows(which), whole[:, which]) < 1e-12
    assert largest_difference(ours.mT.columns(which), whole.mT[..., which]) < 1e-12


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 9))
def test_a_square_one_has_the_eigenvalues_and_the_trace_of_the_product(
    size: int, rank: int, seed: int
) -> None:
    ours = factored(size, rank, size, seed)
    whole = ours.left @ ours.right
    assert largest_difference(ours.trace(), whole.trace()) < 1e-12
    assert largest_difference(ours.diagonal(), whole.diagonal()) < 1e-12
    values = ours.eigenvalues()
    theirs = FactoredMatrix(ours.left, ours.right).eigenvalues
    assert largest_difference(values.abs().sort().values, theirs.abs().sort().values) < 1e-12
    # Those of the product itself are the same and zeros: their power sums are equal.
    own = torch.linalg.eigvals(whole)
    for power in (1, 2, 3):
        difference = (values**power).sum() - (own**power).sum()
        assert float(difference.abs()) < 1e-9 * (1 + float((own.abs() ** power).sum()))


def test_the_norm_of_a_tiny_product_of_large_factors_keeps_its_digits() -> None:
    """The product of nearly orthogonal factors, of which Gram matrices would lose all digits."""
    left = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    right = torch.tensor([[1.0], [-1.0 + 1e-9]], dtype=torch.float64)
    assert float(Factored(left, right).norm()) == pytest.approx(1e-9, rel=1e-6)


def test_the_largest_entries_are_those_of_the_whole_product() -> None:
    ours = factored(600, 3, 7, seed=1)
    whole = (ours.left @ ours.right).flatten()
    values, places = whole.topk(9)
    entries = ours.largest(9)
    assert [(entry.row, entry.column) for entry in entries] == [
        (place // 7, place % 7) for place in places.tolist()
    ]
    assert [entry.value for entry in entries] == pytest.approx(values.tolist(), rel=1e-12)
    assert len(factored(2, 2, 2, seed=0).largest(9)) == 4


def test_factors_and_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"shapes \(3, 2\) and \(3, 4\) cannot be multiplied"):
        Factored(torch.zeros(3, 2), torch.zeros(3, 4))
    with pytest.raises(ConfigError, match="3 rows and 4 columns has no diagonal"):
        Factored(torch.zeros(3, 2), torch.zeros(2, 4)).eigenvalues()
