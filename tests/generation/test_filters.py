"""Filters against their definitions and against transformers' logits processors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tinylm.generation import filters

NO_IDS = torch.zeros(1, 1, dtype=torch.long)
INF = float("inf")


def rows_of_logits(ties: bool = True) -> st.SearchStrategy[Tensor]:
    """Two rows of float64 logits; coarse ones tie often."""
    coarse = st.integers(-6, 6).map(lambda n: n / 2)
    fine = st.floats(-12, 12, allow_nan=False)
    number = st.one_of(coarse, fine) if ties else fine

    def table(width: int) -> st.SearchStrategy[Tensor]:
        row = st.lists(number, min_size=width, max_size=width, unique=not ties)
        return st.lists(row, min_size=2, max_size=2).map(
            lambda rows: torch.tensor(rows, dtype=torch.float64)
        )

    return st.integers(2, 12).flatmap(table)


def log_p(*probabilities: float) -> Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


def kept(logits: Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero().flatten().tolist() for row in logits]


@settings(max_examples=60, deadline=None)
@given(rows_of_logits(), st.floats(0.05, 20))
def test_temperature_equals_transformers(logits: Tensor, value: float) -> None:
    ours = filters.temperature(logits, value)
    theirs = TemperatureLogitsWarper(value)(NO_IDS, logits)
    torch.testing.assert_close(ours.softmax(-1), theirs.softmax(-1), rtol=1e-9, atol=1e-12)


def test_temperature_changes_the_ratio_as_its_formula_says() -> None:
    # p ~ p^(1/T): 0.8/0.2 = 4 becomes 16 at T = 1/2 and 2 at T = 2.
    for value, ratio in ((0.5, 16.0), (2.0, 2.0)):
        p = filters.temperature(log_p(0.8, 0.2), value).softmax(-1)[0]
        assert p[0] / p[1] == pytest.approx(ratio)


@pytest.mark.parametrize("value", [1e-320, 1e-40, 1e-9])
def test_the_smallest_temperatures_are_greedy_and_never_nan(value: float) -> None:
    p = filters.temperature(torch.tensor([[3.0, -2.0, 2.9, -INF]]).double(), value).softmax(-1)
    assert p.tolist() == [[1, 0, 0, 0]]


@settings(max_examples=100, deadline=None)
@given(rows_of_logits(), st.integers(1, 14))
def test_top_k_equals_transformers_ties_included(logits: Tensor, k: int) -> None:
    assert torch.equal(filters.top_k(logits, k), TopKLogitsWarper(k)(NO_IDS, logits))


def test_top_k_keeps_k_and_ties_with_the_last() -> None:
    logits = torch.tensor([[1.0, 5.0, 3.0, 4.0], [2.0, 2.0, 9.0, 2.0]])
    assert kept(filters.top_k(logits, 2)) == [[1, 3], [0, 1, 2, 3]]
    assert kept(filters.top_k(logits, 1)) == [[1], [2]]


@settings(max_examples=100, deadline=None)
@given(rows_of_logits(ties=False), st.floats(0.01, 0.999))
def test_top_p_equals_transformers(logits: Tensor, p: float) -> None:
    ours, theirs = filters.top_p(logits, p), TopPLogitsWarper(p)(NO_IDS, logits)
    if not torch.equal(ours, theirs):
        # Only where rounding decides: the mass before a token is p up to the last bits.
        ordered = logits.softmax(-1).sort(descending=True).values
        before = ordered.cumsum(-1) - ordered
        assert (before - p).abs().min() < 1e-12


@settings(max_examples=100, deadline=None)
@given(rows_of_logits(), st.floats(0.01, 0.999))
def test_top_p_with_ties_keeps_as_many_as_transformers(logits: Tensor, p: float) -> None:
    ours, theirs = filters.top_p(logits, p), TopPLogitsWarper(p)(NO_IDS, logits)
    ordered = logits.softmax(-1).sort(descending=True).values
    before = ordered.cumsum(-1) - ordered
    if (before - p).abs().min() > 1e-12:
        # Which of several equal tokens stays is free; their number and their values are not.
        assert torch.equal(ours.sort().values, theirs.sort().values)


@settings(max_examples=100, deadline=None)
@given(rows_of_logits(), st.floats(1e-6, 0.999))
def test_top_p_is_the_smallest_set_that_reaches_p(logits: Tensor, p: float) -> None:
    probability = logits.softmax(-1)
    for row, ids in enumerate(kept(filters.top_p(logits, p))):
        assert ids
        inside = probability[row, ids]
        outside = [probability[row, i] for i in range(logits.shape[1]) if i not in ids]
        assert all(inside.min() >= other for other in outside)
        assert inside.sum() >= p - 1e-12  # the token that crosses p is kept
        assert inside.sum() - inside.min() < p + 1e-12  # and no further one


def test_top_p_keeps_the_token_that_crosses_and_at_least_one() -> None:
    logits = log_p(0.125, 0.5, 0.25, 0.125)
    assert kept(filters.top_p(logits, 0.6)) == [[1, 2]]  # 0.5 < 0.6 <= 0.75
    assert kept(filters.top_p(logits, 0.5)) == [[1]]  # reached exactly: no further token
    assert kept(filters.top_p(logits, 1e-9)) == [[1]]
    assert len(kept(filters.top_p(logits, 0.8))[0]) == 3  # one of the two equal last ones


@settings(max_examples=100, deadline=None)
@given(rows_of_logits(), st.floats(0.001, 1))
def test_min_p_equals_transformers(logits: Tensor, share: float) -> None:
    ours, theirs = filters.min_p(logits, share), MinPLogitsWarper(share)(NO_IDS, logits)
    probability = logits.softmax(-1)
    distance = probability / probability.amax(-1, keepdim=True) - share
    certain = distance.abs() > 1e-12  # at the threshold itself rounding decides
    assert torch.equal(ours.isfinite()[certain], theirs.isfinite()[certain])
    assert torch.equal(ours[ours.isfinite()], logits[ours.isfinite()])
    assert ours.isfinite().any(-1).all()


def test_min_p_is_relative_to_the_likeliest() -> None:
    logits = log_p(0.5, 0.3, 0.15, 0.05)
    assert kept(filters.min_p(logits, 0.29)) == [[0, 1, 2]]  # 0.29 * 0.5 = 0.145
    assert kept(filters.min_p(logits, 0.31)) == [[0, 1]]
    assert kept(filters.min_p(logits, 1.0)) == [[0]]
    assert kept(filters.min_p(torch.tensor([[2.0, 2.0, 1.0]]), 1.0)) == [[0, 1]]


@settings(max_examples=100, deadline=None)
@given(rows_of_logits(), st.floats(0.2, 5), st.lists(st.integers(0, 11), min_size=1, max_size=9))
def test_repetition_penalty_equals_transformers(
    logits: Tensor, penalty: float, before: list[int]
) -> None:
    ids = torch.tensor([[i % logits.shape[1] for i in before]] * 2)
    ids[1] = (ids[1] + 1) % logits.shape[1]
    seen = torch.zeros_like(logits, dtype=torch.bool).scatter(1, ids, True)
    ours = filters.repetition_penalty(logits, seen, penalty)
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


def test_repetition_penalty_lowers_positive_and_negative_logits_of_seen_tokens_only() -> None:
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0, -INF]])
    seen = torch.tensor([[True, True, False, False, True]])
    penalised = filters.repetition_penalty(logits, seen, 2.0)
    assert penalised.tolist() == [[1.0, -4.0, 2.0, -2.0, -INF]]


def test_filters_do_not_change_their_input() -> None:
    logits = torch.randn(3, 7)
    before = logits.clone()
    filters.top_k(logits, 2)
    filters.top_p(logits, 0.5)
    filters.min_p(logits, 0.5)
    filters.temperature(logits, 0.5)
    filters.repetition_penalty(logits, logits > 0, 2.0)
    assert torch.equal(logits, before)


def test_forbidden_tokens_stay_forbidden() -> None:
    logits = torch.tensor([[1.0, -INF, 0.5, -INF]])
    for filtered in (
        filters.temperature(logits, 0.3),
        filters.top_k(logits, 4),
        filters.top_p(logits, 0.999999),
        filters.min_p(logits, 1e-9),
        filters.repetition_penalty(logits, logits < 0, 1.3),
    ):
        assert kept(filtered) == [[0, 2]]
        assert not filtered.isnan().any()
        assert math.isclose(float(filtered.softmax(-1).sum()), 1, rel_tol=1e-6)
