"""Fastfood beside the matrix that it stands for."""

from __future__ import annotations

import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tinylm.finetuning.fastfood import Fastfood, hadamard


def matrix(projection: Fastfood) -> Tensor:
    """Write the projection down from its factors, (outputs, inputs)."""
    n = projection.size
    transform = torch.tensor(scipy.linalg.hadamard(n), dtype=torch.float64)
    rows = []
    for signs, order, normal in zip(
        projection.signs, projection.order, projection.normal, strict=True
    ):
        permutation = torch.eye(n, dtype=torch.float64)[order]
        diagonal = torch.diag(normal.double())
        block = transform @ diagonal @ permutation @ transform @ torch.diag(signs.double())
        rows.append(block)
    return torch.cat(rows)[: projection.outputs, : projection.inputs] * projection.scale


@pytest.mark.parametrize("size", [1, 2, 8, 64])
def test_the_transform_is_the_matrix_of_hadamard(size: int) -> None:
    x = torch.randn(3, size, dtype=torch.float64)
    wanted = x @ torch.tensor(scipy.linalg.hadamard(size), dtype=torch.float64)
    torch.testing.assert_close(hadamard(x), wanted)
    torch.testing.assert_close(hadamard(hadamard(x)), size * x)


@given(st.integers(1, 20), st.integers(1, 90), st.integers(0, 100))
def test_it_is_its_matrix_and_so_is_its_gradient(inputs: int, outputs: int, seed: int) -> None:
    projection = Fastfood(inputs, outputs, seed)
    z = torch.randn(inputs, dtype=torch.float64, requires_grad=True)
    wanted = matrix(projection)
    projected = projection(z)
    torch.testing.assert_close(projected, wanted @ z)
    toward = torch.randn_like(projected)
    projected.backward(toward)
    torch.testing.assert_close(z.grad, wanted.T @ toward)


@given(st.integers(0, 20), st.sampled_from([5, 8]), st.integers(1, 9))
def test_columns_of_whole_blocks_have_length_one(seed: int, inputs: int, blocks: int) -> None:
    columns = matrix(Fastfood(inputs, 8 * blocks, seed)).norm(dim=0)
    torch.testing.assert_close(columns, torch.ones_like(columns), rtol=1e-6, atol=0)


def test_shares_of_a_projection_keep_the_length_on_average() -> None:
    lengths = []
    for seed in range(300):
        z = torch.randn(24, generator=torch.Generator().manual_seed(seed))
        shares = [Fastfood(24, rows, 2 * seed + i, total=150) for i, rows in enumerate((50, 100))]
        lengths.append(torch.cat([share(z) for share in shares]).norm() ** 2 / z.norm() ** 2)
    assert float(torch.stack(lengths).mean()) == pytest.approx(1, abs=0.05)


def test_entries_are_uncorrelated_and_directions_spread() -> None:
    projected = matrix(Fastfood(64, 4096, 0)) * 64  # entries of variance 1
    assert float(projected.mean()) == pytest.approx(0, abs=0.02)
    assert float(projected.square().mean()) == pytest.approx(1, abs=1e-6)
    products = projected.T @ projected / 4096  # columns with each other
    off = products - torch.diag(products.diag())
    assert float(off.abs().max()) < 0.1


def test_the_seed_alone_says_what_it_is_and_nothing_is_stored() -> None:
    first, same, other = Fastfood(7, 50, 3), Fastfood(7, 50, 3), Fastfood(7, 50, 4)
    z = torch.ones(7)
    state = torch.get_rng_state()
    assert torch.equal(first(z), same(z))
    assert not torch.equal(first(z), other(z))
    assert torch.equal(torch.get_rng_state(), state)
    assert not first.state_dict()
    assert not list(first.parameters())
