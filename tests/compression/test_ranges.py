"""Ranges of activations beside counting one number and one bin at a time."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinylm.compression.calibration import Columns, Histogram
from tinylm.compression.ranges import (
    RANGES,
    Range,
    divergence,
    entropy,
    histogram_about_zero,
    mean_squared_error,
    min_max,
    percentile,
    range_method,
)
from tinylm.errors import CompressionError
from tinylm.numbers.integers import IntegerFormat

SYMMETRIC = IntegerFormat(8, True, "tensor")
ASYMMETRIC = IntegerFormat(8, False, "tensor")
forms = st.sampled_from([SYMMETRIC, ASYMMETRIC])
seeds = st.integers(0, 2**31)


def inputs(seed: int, kind: str = "normal") -> Tensor:
    """Return inputs, (rows, 8), with some far larger than the rest."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(300, 8, generator=generator)
    x[::50] *= 10
    return {"normal": x, "relu": x.relu(), "shifted": x + 2}[kind]


kinds = st.sampled_from(["normal", "relu", "shifted"])


def histogram(x: Tensor, bins: int = 512) -> Histogram:
    columns = Columns()
    columns.add(x)
    counts = histogram_about_zero(columns, bins)
    for rows in x.split(70):
        counts.add(rows)
    return counts


@given(seeds, kinds)
def test_min_max_is_all_that_was_seen(seed: int, kind: str) -> None:
    x = inputs(seed, kind)
    low, high, largest = float(x.min()), float(x.max()), float(x.abs().max())
    assert min_max(histogram(x), ASYMMETRIC) == Range(min(low, 0.0), max(high, 0.0))
    assert min_max(histogram(x), SYMMETRIC) == Range(-largest, largest)


@given(seeds, kinds, st.sampled_from([50.0, 90.0, 99.0, 99.9, 100.0]))
def test_percentile_is_that_of_the_sorted_values_to_a_bin(
    seed: int, kind: str, share: float
) -> None:
    x = inputs(seed, kind)
    counts = histogram(x)

    def at(values: Tensor, part: float) -> float:
        """Return the least value that a part of all does not exceed."""
        ordered = values.flatten().sort().values
        return float(ordered[max(0, math.ceil(part * len(ordered) - 1e-9) - 1)])

    low, high = percentile(counts, SYMMETRIC, share)
    assert low == -high
    assert high == pytest.approx(at(x.abs(), share / 100), abs=counts.width * 1.001)
    low, high = percentile(counts, ASYMMETRIC, share)
    tail = (1 - share / 100) / 2
    lowest, highest = -at(-x, 1 - tail), at(x, 1 - tail)
    assert low == pytest.approx(min(lowest, 0), abs=counts.width * 1.001)
    assert high == pytest.approx(max(highest, 0), abs=counts.width * 1.001)


@settings(max_examples=20)
@given(seeds, kinds, forms, st.sampled_from([8, 4]))
def test_mean_squared_error_is_the_least_of_all_shares(
    seed: int, kind: str, form: IntegerFormat, bits: int
) -> None:
    form = IntegerFormat(bits, form.symmetric, "tensor")  # type: ignore[arg-type]
    x = inputs(seed, kind)
    counts = histogram(x, 1024)
    full = min_max(counts, form)

    def error(share: float) -> float:
        low, high = full.low * share, full.high * share
        if form.symmetric:
            scale, zero = 2 * high / (form.highest - form.lowest), 0
        else:
            scale = (high - low) / (form.highest - form.lowest)
            zero = round(-low / scale)
        values = x.double().flatten()
        codes = ((values / scale).round() + zero).clamp(form.lowest, form.highest)
        return float(((codes - zero) * scale - values).square().sum())

    chosen = mean_squared_error(counts, form)
    share = chosen.high / full.high
    assert chosen.low == pytest.approx(full.low * share)
    # Bins stand for the values in them: within one bin's width of rounding.
    assert error(share) <= 1.02 * min(error(step / 100) for step in range(1, 101))


def slow_divergence(counts: list[int], bound: int, levels: int) -> float:
    """Return what ``divergence`` does, as the slides of Migacz 2017 tell it, bin by bin."""
    own = [float(count) for count in counts[:bound]]
    own[-1] += sum(counts[bound:])
    rounded = [0.0] * bound
    for level in range(levels):
        members = [i for i in range(bound) if math.floor(i * levels / bound) == level]
        filled = [i for i in members if counts[i] > 0]
        for i in filled:
            rounded[i] = sum(counts[j] for j in members) / len(filled)
    if not sum(rounded):
        return math.inf
    total = 0.0
    for p, q in zip(own, rounded, strict=True):
        p, q = p / sum(own), q / sum(rounded)
        if p > 0:
            total += p * math.log(p / q) if q > 0 else math.inf
    return total


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 40), min_size=12, max_size=40).filter(any),
    st.sampled_from([2, 4, 8]),
    st.data(),
)
def test_divergence_is_that_of_counting_bin_by_bin(
    counts: list[int], levels: int, data: st.DataObject
) -> None:
    bound = data.draw(st.integers(levels, len(counts)))
    expected = slow_divergence(counts, bound, levels)
    assert divergence(torch.tensor(counts), bound, levels) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=10)
@given(seeds, kinds, forms)
def test_entropy_takes_the_bound_of_the_least_divergence(
    seed: int, kind: str, form: IntegerFormat
) -> None:
    form = IntegerFormat(4, form.symmetric, "tensor")
    x = inputs(seed, kind)
    bins = 48
    counts = histogram(x, bins)
    places = (x.abs() / counts.width).floor().clamp(max=bins - 1).long().flatten().tolist()
    absolute = [places.count(i) for i in range(bins)]
    absolute[0] = absolute[1]
    levels = 16 if kind == "relu" and not form.symmetric else 8
    divergences = {b: slow_divergence(absolute, b, levels) for b in range(levels, bins + 1)}
    bound = max(divergences, key=lambda b: (-divergences[b], b)) * counts.width
    largest = (float(x.min()), float(x.max()))
    expected = Range(-bound, bound) if form.symmetric else Range(
        min(0.0, max(largest[0], -bound)), min(largest[1], bound))  # fmt: skip
    assert entropy(counts, form) == pytest.approx(expected)


def test_worked_numbers() -> None:
    """A hundred values in ten bins of width 0.1, and one far out."""
    x = torch.tensor([*(i / 100 + 0.005 for i in range(99)), 10.0])[:, None]
    counts = Histogram(-10.0, 10.0, 200)
    counts.add(x)
    assert counts.counts[100:].tolist() == [10] * 9 + [9] + [0] * 89 + [1]
    assert min_max(counts, ASYMMETRIC) == (0.0, 10.0)
    assert percentile(counts, SYMMETRIC, 99.0) == pytest.approx((-1.0, 1.0))
    assert percentile(counts, SYMMETRIC, 50.0) == pytest.approx((-0.5, 0.5))
    # Half of what is left out is at each end.
    assert percentile(counts, ASYMMETRIC, 98.0) == pytest.approx((0.0, 1.0))
    # 255 levels of 0.039 or cutting 81 off a square: the far value stays.
    assert mean_squared_error(counts, ASYMMETRIC) == (0.0, 10.0)
    # Ten equal bins are rounded to themselves; what is beyond counts in the last.
    assert divergence(counts.counts[100:], 10, 10) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("name", list(RANGES))
@pytest.mark.parametrize("form", [SYMMETRIC, ASYMMETRIC])
def test_every_method_keeps_0_and_bears_inputs_of_zeros_or_a_single_value(
    name: str, form: IntegerFormat
) -> None:
    for x in (torch.zeros(3, 4), torch.full((1, 1), 3.0), torch.full((2, 2), -0.5)):
        low, high = RANGES[name](histogram(x), form)
        assert low <= 0 <= high
        assert math.isfinite(low) and math.isfinite(high)
        scale, zero = form.of_range(torch.tensor([[low]]), torch.tensor([[high]]))
        zeros = torch.zeros(1, 4)
        assert torch.equal(form.decode(form.encode(zeros, scale, zero), scale, zero), zeros)


def test_a_method_by_name_keeps_the_share_that_it_is_given() -> None:
    counts = histogram(inputs(0))
    for name, method in RANGES.items():
        assert range_method(name)(counts, ASYMMETRIC) == method(counts, ASYMMETRIC)
    half = range_method("percentile", 50.0)(counts, ASYMMETRIC)
    assert half == percentile(counts, ASYMMETRIC, 50.0) != percentile(counts, ASYMMETRIC)


def test_what_cannot_be_is_refused() -> None:
    x = inputs(0)
    for share in (0.0, -1.0, 100.5, math.nan):
        with pytest.raises(CompressionError, match="percentile"):
            percentile(histogram(x), SYMMETRIC, share)
    with pytest.raises(CompressionError, match="no input"):
        min_max(Histogram(-1.0, 1.0), SYMMETRIC)
    x[0, 0] = math.inf
    with pytest.raises(CompressionError, match="no histogram"):
        histogram(x)
