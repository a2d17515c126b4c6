"""Exactly so many of each group go, the lowest ones, ties by their place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tinylm.compression.masking import cubic_share
from tinylm.compression.selection import kept_by_pattern, kept_of
from tinylm.errors import CompressionError


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Tensor]:
    """Scores with many ties."""
    made = {}
    for path in "ab":
        rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 9))
        values = st.integers(0, 3)
        numbers = draw(st.lists(values, min_size=rows * columns, max_size=rows * columns))
        made[path] = torch.tensor(numbers).view(rows, columns).float()
    return made


def lowest(values: list[float], count: int) -> set[int]:
    """Indices of the lowest, by sorting pairs of value and place."""
    return {i for _, i in sorted((value, i) for i, value in enumerate(values))[:count]}


def by_hand(scores: dict[str, Tensor], share: float, scope: str) -> dict[str, list[list[bool]]]:
    if scope == "global":
        flat = [v for each in scores.values() for v in each.flatten().tolist()]
        gone = lowest(flat, round(share * len(flat)))
        kept = iter([i not in gone for i in range(len(flat))])
        return {p: [[next(kept) for _ in row] for row in each] for p, each in scores.items()}
    made = {}
    for path, each in scores.items():
        rows = each.tolist()
        groups = [[v for row in rows for v in row]] if scope == "map" else rows
        kept = iter(
            i not in lowest(group, round(share * len(group)))
            for group in groups
            for i in range(len(group))
        )
        made[path] = [[next(kept) for _ in row] for row in rows]
    return made


@given(tables(), st.floats(0, 1), st.sampled_from(["map", "row", "global"]))
def test_the_lowest_of_each_group_go(scores: dict[str, Tensor], share: float, scope: str) -> None:
    kept = kept_of(scores, share, scope)
    assert {path: each.tolist() for path, each in kept.items()} == by_hand(scores, share, scope)


@given(st.data())
def test_a_pattern_keeps_exactly_so_many_of_every_group(data: st.DataObject) -> None:
    of = data.draw(st.integers(2, 6))
    n = data.draw(st.integers(1, of - 1))
    groups = data.draw(st.integers(1, 4))
    seed = data.draw(st.integers(0, 2**32))
    scores = torch.randint(0, 3, (3, groups * of), generator=torch.Generator().manual_seed(seed))
    kept = kept_by_pattern({"a": scores.float()}, n, of)["a"]
    for row, stays in zip(scores.view(-1, of).tolist(), kept.view(-1, of).tolist(), strict=True):
        gone = lowest(row, of - n)
        assert stays == [i not in gone for i in range(of)]


def test_a_pattern_that_does_not_divide_is_refused() -> None:
    with pytest.raises(CompressionError, match=r"pattern 2:4: the rows of b have 6 numbers"):
        kept_by_pattern({"a": torch.ones(2, 8), "b": torch.ones(2, 6)}, 2, 4)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0, 10, 0.8), 0.0),
        ((5, 10, 0.8), 0.8 * (1 - 0.125)),
        ((10, 10, 0.8), 0.8),
        ((12, 10, 0.8), 0.8),
        ((0, 0, 0.8), 0.8),
        ((0, 10, 0.8, 0.2), 0.2),
        ((5, 10, 0.8, 0.2), 0.8 - 0.6 * 0.125),
    ],
)
def test_the_cubic_schedule(arguments: Any, expected: float) -> None:
    """Zhu and Gupta 2017, equation 1, worked by hand."""
    assert cubic_share(*arguments) == pytest.approx(expected, abs=1e-12)
