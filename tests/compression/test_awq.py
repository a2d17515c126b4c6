"""AWQ's and clipping's searches beside multiplying the inputs themselves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinylm.compression.awq import awq_scale
from tinylm.compression.calibration import Columns, Gram
from tinylm.compression.clipping import SHARES, clipped_constants
from tinylm.numbers.integers import IntegerFormat

forms = st.sampled_from(
    [
        IntegerFormat(bits, symmetric, granularity, 4 if granularity == "group" else None)
        for bits in (4, 3, 2)
        for symmetric in (True, False)
        for granularity in ("tensor", "row", "group")
    ]
)
seeds = st.integers(0, 2**31)


def problem(seed: int, dead: int = 0) -> tuple[Tensor, Tensor, Gram, Columns]:
    """Return a weight, correlated inputs some of which are large, and their statistics."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = (normal(50, 12) + normal(50, 3) @ normal(3, 12)) * normal(12).mul(1.5).exp()
    x[:, :dead] = 0
    gram, columns = Gram(), Columns()
    for statistic in (gram, columns):
        statistic.add(x)
    return normal(6, 12), x, gram, columns


@settings(max_examples=15)
@given(seeds, forms, st.integers(0, 2))
def test_the_exponent_is_that_of_the_smallest_error_of_the_outputs(
    seed: int, form: IntegerFormat, dead: int
) -> None:
    weight, x, gram, columns = problem(seed, dead)
    scale, exponent = awq_scale(weight, gram, columns, form)
    mean = x.abs().mean(0)
    mean[:dead] = mean[dead:].min()
    errors = []
    for step in range(20):
        tried = mean ** (step / 20)
        tried = (tried / (tried.max() * tried.min()).sqrt()).float().double()
        outputs = (x / tried) @ form.rounded(weight * tried).double().T
        errors.append(float((outputs - x @ weight.T).square().sum()))
        if step / 20 == exponent:
            torch.testing.assert_close(scale.double(), tried, rtol=1e-6, atol=0)
    assert errors[round(exponent * 20)] == pytest.approx(min(errors), rel=1e-6)
    assert scale.shape == (12,)
    assert (scale > 0).all()
    # Plain rounding is among what is tried.
    nearest = (x @ (form.rounded(weight) - weight).T).square().sum()
    assert min(errors) <= float(nearest) * (1 + 1e-6)


def test_a_large_input_s_column_is_made_larger() -> None:
    """Worked: one input is 100 times the others, and so is what its weight's rounding costs."""
    x = torch.ones(4, 4, dtype=torch.float64)
    x[:, 2] = 100
    gram, columns = Gram(), Columns()
    gram.add(x)
    columns.add(x)
    weight = torch.tensor([[1.0, -0.9, 0.13, 0.7]], dtype=torch.float64)
    scale, exponent = awq_scale(weight, gram, columns, IntegerFormat(3, True, "row"))
    assert exponent > 0
    assert scale.tolist() == pytest.approx(
        [10**-exponent] * 2 + [10**exponent] + [10**-exponent], rel=1e-5
    )


def test_inputs_that_are_all_zero_leave_the_weight_as_it_is() -> None:
    gram, columns = Gram(), Columns()
    gram.add(torch.zeros(3, 4))
    columns.add(torch.zeros(3, 4))
    scale, exponent = awq_scale(torch.randn(2, 4), gram, columns, IntegerFormat(4))
    assert exponent == 0
    assert torch.equal(scale, torch.ones(4))


@settings(max_examples=15)
@given(seeds, forms, st.booleans())
def test_the_range_of_a_group_is_that_of_the_smallest_error(
    seed: int, form: IntegerFormat, by_inputs: bool
) -> None:
    weight, x, gram, _ = problem(seed)
    scale, zero = clipped_constants(weight, form, gram.total if by_inputs else None)
    size = form.group_size or 12
    rows = [slice(0, 6)] if form.granularity == "tensor" else [slice(r, r + 1) for r in range(6)]
    for row in rows:
        for group in range(12 // size):
            columns = slice(group * size, group * size + size)
            part = weight[row, columns]
            inputs = x[:, columns] if by_inputs else torch.eye(size, dtype=torch.float64)
            if by_inputs and form.granularity != "group":
                inputs = x
            errors = []
            for share in SHARES:
                tried = form.of_range(
                    part.min()[None, None] * share, part.max()[None, None] * share
                )
                moved = form.decode(form.encode(part, *tried), *tried) - part
                errors.append((float((inputs @ moved.T).square().sum()), tried))
            least = min(error for error, _ in errors)
            chosen = scale[row, group, None], None if zero is None else zero[row, group, None]
            moved = form.decode(form.encode(part, *chosen), *chosen) - part
            assert float((inputs @ moved.T).square().sum()) == pytest.approx(least, rel=1e-9)
            assert any(torch.equal(chosen[0], tried[0]) for _, tried in errors)


def test_a_range_that_cannot_be_bettered_is_kept_whole() -> None:
    """Codes that hold the weights exactly."""
    form = IntegerFormat(4, False, "row")
    weight = torch.arange(16.0)[None] - 5
    scale, zero = clipped_constants(weight, form)
    assert scale.item() == 1
    assert zero is not None and zero.item() == 5
