"""Which layers are matched, and how far apart they are."""

from __future__ import annotations

import pytest
import torch

from tinylm.compression.layer_matching import Projections, matched_layers


@pytest.mark.parametrize(
    ("student", "teacher", "wanted"),
    [
        (4, 12, [2, 5, 8, 11]),  # TinyBERT's every third
        (6, 12, [1, 3, 5, 7, 9, 11]),
        (2, 3, [1, 2]),
        (3, 4, [1, 2, 3]),
        (1, 3, [2]),
        (3, 3, [0, 1, 2]),
        (4, 2, [0, 0, 1, 1]),
    ],
)
def test_layers_are_mapped_evenly_and_the_last_to_the_last(
    student: int, teacher: int, wanted: list[int]
) -> None:
    assert matched_layers(student, teacher) == wanted


def test_the_distance_is_the_mean_square_of_every_row() -> None:
    before = torch.get_rng_state()
    projections = Projections(2, 3, 5, seed=4).double()
    assert torch.equal(torch.get_rng_state(), before)
    again = Projections(2, 3, 5, seed=4).double()
    assert all(map(torch.equal, projections.parameters(), again.parameters()))
    student = [torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    teacher = [torch.randn(4, 5, dtype=torch.float64) for _ in range(2)]
    loss = projections(student, teacher)
    total = 0.0
    for matrix, own, wanted in zip(projections.parameters(), student, teacher, strict=True):
        for row in range(4):
            for i in range(5):
                made = sum(float(matrix.data[i, j] * own.data[row, j]) for j in range(3))
                total += (made - float(wanted[row, i])) ** 2 / 5 / 2
    assert loss.item() == pytest.approx(total, rel=1e-12)
    assert torch.autograd.gradcheck(
        lambda *own: projections(own, teacher), student, eps=1e-6, atol=1e-7
    )
