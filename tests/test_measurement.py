"""The rule for measurements: intervals against scipy and worked numbers, verdicts on both sides."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tinylm.measurement import (
    LEAST,
    LIMIT,
    TIME_WORDS,
    VALUE_WORDS,
    Comparison,
    Difference,
    Measurement,
    Replicates,
    Verdict,
    compare,
    compare_unpaired,
    mean,
    mean_replicates,
    paired,
    unpaired,
)

seconds = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=12)


# --- a measurement and its spread ---


def test_the_result_is_the_median_and_the_spread_that_of_the_quartiles() -> None:
    measured = Measurement.of([1.0, 4.0, 2.0, 3.0, 5.0])
    assert measured.median == 3
    assert measured.spread == pytest.approx((4 - 2) / 3)
    assert Measurement.of([2.0]).spread == 0
    assert Measurement.of([1.0, 3.0]).spread == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("rounds", "disturbed"),
    [
        ([1.0, 1.0, 1.0], False),
        ([1.0, 1.0, 1.0 + 1.99 * LIMIT], False),
        ([1.0, 1.0, 1.0 + 2.01 * LIMIT], True),
        ([1.0, 1.0, 1.0, 1.0, 25.35], False),  # a single bad round among five
        ([1.0, 1.0, 25.35], True),
    ],
)
def test_rounds_far_apart_are_disturbed(rounds: list[float], disturbed: bool) -> None:
    assert Measurement.of(rounds).disturbed is disturbed


@given(seconds)
def test_the_quartiles_are_those_of_numpy(rounds: list[float]) -> None:
    first, third = np.percentile(rounds, [25, 75])
    expected = (third - first) / np.median(rounds)
    assert Measurement.of(rounds).spread == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(seconds)
def test_a_measurement_comes_back_from_its_result(rounds: list[float]) -> None:
    measured = Measurement.of(rounds)
    result = measured.as_result()
    assert Measurement.from_result(result) == measured
    assert result["median_s"] == np.median(rounds)
    assert (result["min_s"], result["max_s"]) == (min(rounds), max(rounds))
    assert result["rounds"] == len(rounds)


@pytest.mark.parametrize("rounds", [[], [1.0, 0.0], [1.0, -1.0], [math.nan], [math.inf]])
def test_what_is_no_measurement_is_refused(rounds: list[float]) -> None:
    with pytest.raises(ValueError, match="positive numbers"):
        Measurement.of(rounds)


# --- intervals ---


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20))
def test_the_interval_of_a_mean_is_students(values: list[float]) -> None:
    made = mean(values)
    if np.std(values) > 1e-6:
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert (made.low, made.high) == pytest.approx(tuple(expected), rel=1e-6, abs=1e-6)
    assert made.value == pytest.approx(np.mean(values), abs=1e-9)


def test_a_worked_interval() -> None:
    made = mean([1.0, 2.0, 3.0])  # standard error 1/sqrt(3), quantile 4.303 at 2 degrees of freedom
    assert made.low == pytest.approx(2 - 4.3027 / math.sqrt(3), abs=1e-3)
    assert made.high == pytest.approx(2 + 4.3027 / math.sqrt(3), abs=1e-3)


def test_leaving_out_one_part_gives_the_error_of_a_ratio_of_sums() -> None:
    random = np.random.default_rng(0)
    tokens = random.integers(20, 200, 400).astype(float)
    losses = tokens * 1.5 + random.normal(0, 3, 400) * np.sqrt(tokens)
    made = mean_replicates(losses, tokens)
    ratio = losses.sum() / tokens.sum()
    residuals = losses - ratio * tokens  # the delta method's, Cochran 1977, 6.4
    expected = math.sqrt(residuals.var(ddof=1) / 400) / tokens.mean()
    assert made.value == pytest.approx(ratio)
    assert made.error == pytest.approx(expected, rel=0.01)


def test_paired_parts_cancel_what_they_share() -> None:
    random = np.random.default_rng(1)
    shared = random.normal(0, 10, 40)
    first, second = (mean_replicates(shared + random.normal(shift, 0.1, 40)) for shift in (0.2, 0))
    assert paired(first, second).verdict is Verdict.MORE
    assert unpaired(first, second).verdict is Verdict.ALIKE
    assert (-paired(first, second)).verdict is Verdict.LESS


def test_other_parts_have_welchs_interval() -> None:
    random = np.random.default_rng(2)
    first, second = random.normal(3, 1, 9), random.normal(1, 4, 17)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    made = unpaired(mean_replicates(first), mean_replicates(second))
    assert (made.low, made.high) == pytest.approx(tuple(expected))


def test_one_part_has_no_interval() -> None:
    for made in (mean([3.0]), paired(mean_replicates([3.0]), mean_replicates([1.0])),
                 unpaired(mean_replicates([3.0]), mean_replicates([1.0, 2.0]))):  # fmt: skip
        assert math.isnan(made.low) and math.isnan(made.high)
        assert made.verdict is Verdict.UNKNOWN
    assert mean([]).verdict is Verdict.UNKNOWN


def test_parts_that_are_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="not paired"):
        paired(mean_replicates([1.0, 2.0]), mean_replicates([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="not interleaved"):
        compare(Measurement.of([1.0]), Measurement.of([1.0, 2.0]))


# --- what may be said ---


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-2.0, -1e-9, "lower"),
        (-2.0, 0.0, "not measurably different"),
        (0.0, 2.0, "not measurably different"),
        (1e-9, 2.0, "higher"),
        (math.nan, math.nan, "could not be measured"),
    ],
)
def test_a_difference_is_one_if_its_interval_leaves_nothing_out(
    low: float, high: float, word: str
) -> None:
    made = Difference((low + high) / 2, low, high)
    assert made.word == word
    back = Difference.from_result(made.as_result())
    assert back.verdict is made.verdict
    assert Difference.from_result(None).word == "could not be measured"


@pytest.mark.parametrize(
    ("ratio", "low", "high", "disturbed", "word"),
    [
        (0.5, 0.4, 0.6, False, "quicker"),
        (0.5, 0.4, 0.6, True, "quicker"),  # a difference that a disturbance does not hide
        (0.5, 0.2, 1.001, False, "not measurably different"),
        (0.5, 0.2, 1.001, True, "could not be measured"),
        (1 - LEAST + 1e-6, 0.97, 0.99, False, "not measurably different"),
        (1 - LEAST, 0.97, 0.99, False, "quicker"),
        (1 + LEAST - 1e-6, 1.01, 1.03, False, "not measurably different"),
        (1 + LEAST, 1.01, 1.03, False, "slower"),
        (2.0, 0.999, 4.0, False, "not measurably different"),
        (2.0, 1.001, 4.0, False, "slower"),
        (2.0, math.nan, math.nan, False, "could not be measured"),
    ],
)
def test_times_are_told_apart_by_interval_size_and_disturbance(
    ratio: float, low: float, high: float, disturbed: bool, word: str
) -> None:
    made = Comparison(ratio, low, high, disturbed)
    assert made.word == word
    opposite = {"quicker": "slower", "slower": "quicker"}
    assert made.inverse.low == pytest.approx(1 / high, nan_ok=True)
    if abs(ratio - 1) > 2 * LEAST:
        assert made.inverse.word == opposite.get(word, word)


def test_a_disturbed_measurement_is_no_finding() -> None:
    greedy = Measurement.of([1.0, 1.1, 26.0])  # a spread of over a thousand percent
    beam = Measurement.of([1.05, 1.2, 1.1])
    assert greedy.spread > 10
    assert compare(beam, greedy).word == "could not be measured"
    quiet = Measurement.of([1.0, 1.01, 1.0])
    assert compare(Measurement.of([9.0, 9.1, 9.2]), quiet).word == "slower"


@given(seconds, st.floats(0.1, 10))
def test_a_ratio_is_that_of_every_round(rounds: list[float], ratio: float) -> None:
    made = compare(
        Measurement.of([ratio * seconds_taken for seconds_taken in rounds]), Measurement.of(rounds)
    )
    assert made.ratio == pytest.approx(ratio)
    assert made.low == pytest.approx(ratio, rel=1e-6)


def test_one_after_the_other_is_compared_without_pairs() -> None:
    first, second = Measurement.of([1.0, 1.02, 1.01]), Measurement.of([2.0, 2.02, 2.01, 1.99])
    made = compare_unpaired(first, second)
    logs = stats.ttest_ind(np.log(first.rounds), np.log(second.rounds), equal_var=False)
    assert (made.low, made.high) == pytest.approx(tuple(np.exp(logs.confidence_interval(0.95))))
    assert made.word == "quicker"


def test_every_verdict_has_its_words() -> None:
    assert set(TIME_WORDS) == set(VALUE_WORDS) == set(Verdict)


def test_replicates_are_of_all_but_one() -> None:
    made = Replicates.of(lambda kept: float(kept.sum()), 4)
    assert made.value == 6
    assert made.without == (6.0, 5.0, 4.0, 3.0)
