"""GPTQ beside the plain recursion of OBQ, rounding to the nearest, and worked numbers."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.compression.obq import obq_row
from tinylm.compression.calibration import Gram
from tinylm.compression.gptq import Order, rounded_by_gptq
from tinylm.errors import CompressionError
from tinylm.numbers.integers import IntegerFormat

FORMATS = [
    IntegerFormat(bits, symmetric, granularity, 4 if granularity == "group" else None)
    for bits in (8, 4, 3, 2)
    for symmetric in (True, False)
    for granularity in ("tensor", "row", "group")
]
forms = st.sampled_from(FORMATS)
seeds = st.integers(0, 2**31)
orders = st.sampled_from(get_args(Order))


def problem(seed: int, rows: int = 5, columns: int = 12, dead: int = 0) -> tuple[Tensor, Gram]:
    """Return a weight, float64, and what was seen of correlated inputs, some always 0."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = normal(40, columns) @ normal(columns, columns) * normal(columns).exp()
    inputs[:, torch.randperm(columns, generator=generator)[:dead]] = 0
    gram = Gram()
    gram.add(inputs)
    return normal(rows, columns), gram


def ties(form: IntegerFormat, order: Order) -> bool:
    """Whether the last bit of a sum decides between two codes.

    The largest weight of a symmetric group lies halfway between two; what matters is whether the
    scale is fitted to weights that have moved.
    """
    return form.symmetric and form.granularity == "group" and order == "given"


def damped(gram: Gram, damping: float) -> Any:
    hessian = gram.hessian.numpy().copy()
    hessian[np.diag_indices_from(hessian)] += damping * np.diag(hessian).mean()
    return hessian


@given(seeds, forms, orders, st.sampled_from([0.01, 0.1]), st.booleans())
def test_codes_are_those_of_obq(
    seed: int, form: IntegerFormat, order: Order, damping: float, pruned: bool
) -> None:
    assume(not ties(form, order))
    weight, gram = problem(seed)
    kept = torch.rand(5, 12, generator=torch.Generator().manual_seed(seed)) < 0.6
    kept = kept if pruned else torch.ones_like(kept)
    result = rounded_by_gptq(weight, gram.hessian, form, kept=kept, damping=damping, order=order)
    weight = weight * kept
    assert not form.decode(*result)[~kept].any()
    size = 12 // result.scale.shape[1]
    scales = result.scale.double().repeat_interleave(size, 1).expand(5, 12).numpy()
    zeros = np.zeros((5, 12))
    if result.zero is not None:
        zeros = result.zero.double().repeat_interleave(size, 1).expand(5, 12).numpy()
    columns = list(range(12))
    if order == "activity":
        diagonal = gram.hessian.diagonal()
        columns = sorted(columns, key=lambda j: -float(diagonal[j]))
        scale, zero = form.fit(weight)  # groups are fixed before any column moves
        assert torch.equal(result.scale, scale)
        assert zero is None or torch.equal(result.zero, zero)
    expected = [
        obq_row(
            weight[row].numpy(),
            damped(gram, damping),
            scales[row],
            zeros[row],
            (form.lowest, form.highest),
            columns,
            kept[row].tolist(),
        )
        for row in range(5)
    ]
    assert result.codes.tolist() == expected


def test_scales_in_the_given_order_are_fitted_to_the_weights_as_errors_moved_them() -> None:
    weight, gram = problem(3)
    form = IntegerFormat(3, False, "group", 4)
    result = rounded_by_gptq(weight, gram.hessian, form, order="given")
    inverse = np.linalg.inv(damped(gram, 0.01))
    moved = weight.numpy().copy()
    for group in range(3):
        columns = range(4 * group, 4 * group + 4)
        scale, zero = form.fit(torch.from_numpy(moved[:, columns]))
        assert torch.equal(result.scale[:, group], scale[:, 0])
        assert zero is not None and result.zero is not None
        assert torch.equal(result.zero[:, group], zero[:, 0])
        for q in columns:
            code = form.encode(torch.from_numpy(moved[:, [q]]), scale, zero)
            assert torch.equal(result.codes[:, q], code[:, 0])
            error = moved[:, q] - form.decode(code, scale, zero)[:, 0].numpy()
            moved -= np.outer(error / inverse[q, q], inverse[q])
            inverse -= np.outer(inverse[:, q], inverse[q]) / inverse[q, q]


@given(seeds, forms, orders, st.sampled_from([torch.float32, torch.float64]))
def test_without_correlation_it_is_rounding_to_the_nearest_bit_for_bit(
    seed: int, form: IntegerFormat, order: Order, dtype: torch.dtype
) -> None:
    weight = problem(seed)[0].to(dtype)
    scale, zero = form.fit(weight)
    for hessian in (torch.eye(12), torch.eye(12, dtype=torch.float64) * 0.37):
        result = rounded_by_gptq(weight, hessian, form, order=order)
        assert torch.equal(result.scale, scale)
        assert result.zero is None if zero is None else torch.equal(result.zero, zero)
        assert torch.equal(result.codes, form.encode(weight, scale, zero))


@settings(max_examples=40)
@given(seeds, forms, orders)
def test_the_block_size_changes_nothing(seed: int, form: IntegerFormat, order: Order) -> None:
    assume(not ties(form, order))
    weight, gram = problem(seed)
    results = [
        rounded_by_gptq(weight, gram.hessian, form, order=order, block_size=size)
        for size in (1, 3, 4, 5, 8, 128)
    ]
    for result in results[1:]:
        assert torch.equal(result.codes, results[0].codes)
        assert torch.equal(result.scale, results[0].scale)


@given(seeds, orders, st.integers(1, 6))
def test_dead_columns_become_zero_and_the_rest_is_as_without_them(
    seed: int, order: Order, dead: int
) -> None:
    weight, gram = problem(seed, dead=dead)
    form = IntegerFormat(4, True, "row")
    alive = gram.hessian.diagonal() != 0
    # A dead column counts for the mean of the diagonal, as 1.
    diagonal = torch.where(alive, gram.hessian.diagonal(), 1.0)
    share = 0.01 * float(diagonal.mean() / diagonal[alive].mean())
    result = rounded_by_gptq(weight, gram.hessian, form, order=order)
    without = rounded_by_gptq(
        weight[:, alive], gram.hessian[alive][:, alive], form, order=order, damping=share
    )
    assert int((~alive).sum()) == dead
    assert not result.codes[:, ~alive].any()
    assert torch.equal(result.codes[:, alive], without.codes)
    assert torch.equal(result.scale, without.scale)


def errors(seed: int, form: IntegerFormat, order: Order) -> tuple[float, float]:
    """Return the error of the outputs by GPTQ and by rounding to the nearest."""
    weight, gram = problem(seed, rows=32, columns=24)
    result = rounded_by_gptq(weight, gram.hessian, form, order=order)
    carried = gram.error(form.decode(*result) - weight).sum()
    return float(carried), float(gram.error(form.rounded(weight) - weight).sum())


@settings(max_examples=60)
@given(
    seeds,
    orders,
    st.sampled_from([4, 3]),
    st.sampled_from([("row", None), ("group", 8)]),
    st.booleans(),
)
def test_outputs_change_less_than_by_rounding_to_the_nearest(
    seed: int, order: Order, bits: Any, grouping: Any, symmetric: bool
) -> None:
    """Of a whole matrix: of a single row nothing is promised, and of 2 bits only on average."""
    carried, nearest = errors(seed, IntegerFormat(bits, symmetric, *grouping), order)
    assert carried < nearest


@pytest.mark.parametrize("order", get_args(Order))
def test_of_2_bits_outputs_change_less_on_average(order: Order) -> None:
    form = IntegerFormat(2, False, "group", 8)
    ratios = [carried / nearest for carried, nearest in (errors(s, form, order) for s in range(20))]
    assert sum(ratios) / len(ratios) < 0.9


def test_worked_numbers() -> None:
    """Two columns whose inputs are alike: the second makes up for what the first lost."""
    form = IntegerFormat(4, True, "row")
    # Scale 1: codes are whole numbers from -8 to 7, 15/2 the largest absolute weight.
    weight = torch.tensor([[7.5, 0.3, 0.3]], dtype=torch.float64)
    hessian = torch.tensor([[1.0, 0, 0], [0, 1, 0.99], [0, 0.99, 1]], dtype=torch.float64)
    result = rounded_by_gptq(weight, hessian, form, damping=0.0, order="given")
    assert result.scale.item() == 1
    # 0.3 becomes 0; the next is 0.3 + 0.3 * 0.99 = 0.597, which becomes 1.
    assert result.codes.tolist() == [[7, 0, 1]]
    assert form.encode(weight, *form.fit(weight)).tolist() == [[7, 0, 0]]
    # The outputs' error: 2 * 0.3^2 * (1 + 0.99) by itself, 0.09 + 0.49 - 2 * 0.3 * 0.7 * 0.99.
    carried = form.decode(*result) - weight
    assert float(carried @ hessian @ carried.T) == pytest.approx(0.25 + 0.1642)


@given(seeds, forms, orders)
def test_the_weight_is_left_alone(seed: int, form: IntegerFormat, order: Order) -> None:
    weight, gram = problem(seed, dead=2)
    before, hessian = weight.clone(), gram.hessian.clone()
    rounded_by_gptq(weight, hessian, form, order=order)
    assert torch.equal(weight, before)
    assert torch.equal(hessian, gram.hessian)


def test_a_hessian_that_tells_nothing_is_refused() -> None:
    weight = torch.randn(3, 4)
    form = IntegerFormat(4)
    with pytest.raises(CompressionError, match="not finite"):
        rounded_by_gptq(weight, torch.full((4, 4), float("nan")), form)
    with pytest.raises(CompressionError, match="more damping"):
        rounded_by_gptq(weight, torch.ones(4, 4), form, damping=0.0)
