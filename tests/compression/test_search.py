"""The search for a smaller model, against trying everything."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.compression.search import Candidate, Goal, search

SHARES = (0.25, 0.5, 0.75)
WIDTHS = ((8, 8), (4, 8), (4, 4), (2, 2))
EVERY = [Candidate(share, width) for share, width in product((0.0, *SHARES), (None, *WIDTHS))]
SIZES = {
    each: round((1 - each.share / 2) * (4000 if each.width is None else 100 * sum(each.width)))
    for each in EVERY
}


@st.composite
def tables(draw: st.DrawFn) -> dict[Candidate, float]:
    """Losses of all candidates: more taken away is no better, and rounding never helps."""
    losses: dict[Candidate, float] = {}
    least = 1.0
    for share in (0.0, *SHARES):
        least += draw(st.floats(0, 0.5))
        losses[Candidate(share)] = least
        for width in WIDTHS:
            losses[Candidate(share, width)] = least + draw(st.floats(0, 0.5))
    return losses


class Asked:
    """Gives losses, and remembers which."""

    def __init__(self, losses: dict[Candidate, float]) -> None:
        self.losses = losses
        self.order: list[Candidate] = []

    def __call__(self, candidate: Candidate) -> float:
        assert candidate not in self.order
        self.order.append(candidate)
        shares = [each.share for each in self.order]
        assert shares == sorted(shares)
        assert Candidate(candidate.share) in self.order
        return self.losses[candidate]


@given(losses=tables(), most=st.integers(1, 5000))
def test_the_best_that_is_small_enough(losses: dict[Candidate, float], most: int) -> None:
    asked = Asked(losses)
    best = search(Goal(most_bytes=most), SHARES, WIDTHS, SIZES.__getitem__, asked)
    small = [each for each in EVERY if SIZES[each] <= most]
    if not small:
        assert best is None
        assert not asked.order
        return
    assert best in small
    assert losses[best] == min(losses[each] for each in small)


@given(losses=tables(), most=st.floats(0.9, 3))
def test_the_smallest_that_is_good_enough(losses: dict[Candidate, float], most: float) -> None:
    best = search(Goal(most_loss=most), SHARES, WIDTHS, SIZES.__getitem__, Asked(losses))
    good = [each for each in EVERY if losses[each] <= most]
    if not good:
        assert best is None
        return
    assert best in good
    assert SIZES[best] == min(SIZES[each] for each in good)


@given(
    losses=st.lists(st.floats(1, 2), min_size=len(EVERY), max_size=len(EVERY)),
    most=st.floats(1, 2),
)
def test_the_goal_is_reached_whatever_the_losses(losses: list[float], most: float) -> None:
    """Also where more taken away helps, which training after it may do."""
    table = dict(zip(EVERY, losses, strict=True))
    best = search(Goal(most_loss=most), SHARES, WIDTHS, SIZES.__getitem__, Asked(table))
    assert best is None or table[best] <= most
    best = search(Goal(most_bytes=1500), SHARES, WIDTHS, SIZES.__getitem__, Asked(table))
    assert best is not None
    assert SIZES[best] <= 1500


@pytest.mark.parametrize("goal", [Goal(most_bytes=900), Goal(most_loss=1.1)])
def test_a_share_that_is_too_bad_ends_the_search(goal: Goal) -> None:
    losses = {
        each: 1 + 2 * each.share + (0 if each.width is None else 0.8 / each.width[0])
        for each in EVERY
    }
    asked = Asked(losses)
    search(goal, SHARES, WIDTHS, SIZES.__getitem__, asked)
    assert {each.share for each in asked.order} == {0.0, 0.25}
    assert [each for each in asked.order if each.share] == [Candidate(0.25)]
