"""8-bit integers against the definition, a row at a time."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from tinylm.numbers.int8 import row_scales, to_int8


@given(rows=st.integers(1, 6), columns=st.integers(1, 30), size=st.floats(1e-3, 1e3))
def test_a_row_is_rounded_to_multiples_of_its_scale(rows: int, columns: int, size: float) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(columns)) * size
    integers, scale = to_int8(weight)
    assert integers.dtype == torch.int8
    for row, whole, factor in zip(weight, integers, scale, strict=True):
        largest = float(row.abs().max())
        assert float(factor) * 127 == torch.tensor(largest / 127).item() * 127
        assert int(whole.abs().max()) == 127
        error = (whole.double() * factor.double() - row.double()).abs().max()
        assert float(error) <= float(factor) * 0.5 * (1 + 1e-5)


def test_a_row_of_zeros_is_zeros() -> None:
    integers, scale = to_int8(torch.tensor([[0.0, 0.0], [0.0, -2.0]]))
    assert integers.tolist() == [[0, 0], [0, -127]]
    assert scale.isfinite().all()
    assert row_scales(torch.zeros(1, 3)).dtype == torch.float64
