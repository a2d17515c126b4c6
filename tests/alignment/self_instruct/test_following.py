"""Shares of instructions that are followed, and their difference, beside worked numbers."""

from __future__ import annotations

import math

import pytest
from scipy.stats import ttest_rel

from tinylm.alignment.self_instruct.demands import Demand
from tinylm.alignment.self_instruct.following import ALL, Answered, compared
from tinylm.alignment.self_instruct.records import Instance
from tinylm.alignment.self_instruct.story_tasks import StoryTask
from tinylm.experiments.instruction_following import lines_of
from tinylm.measurement import Verdict


def tasks(*kinds: str) -> list[StoryTask]:
    return [StoryTask(kind, Instance("Do it.", "", "x"), (Demand("dialogue"),)) for kind in kinds]


def answered(*followed: bool) -> Answered:
    return Answered([""] * len(followed), [True] * len(followed), followed)


def test_shares_and_the_paired_interval() -> None:
    before = [True, False, False, False, True, False, False, True]
    after = [True, True, False, True, True, True, False, False]
    rows = compared(tasks(*"aabbaabb"), answered(*before), answered(*after))
    assert [(row.kind, row.count, row.before, row.after) for row in rows] == [
        ("a", 4, 0.5, 1.0),
        ("b", 4, 0.25, 0.25),
        (ALL, 8, 0.375, 0.625),
    ]
    interval = ttest_rel(list(map(float, after)), list(map(float, before))).confidence_interval(
        0.95
    )
    assert rows[-1].difference.ends == pytest.approx((interval.low, interval.high))
    assert rows[-1].difference.verdict is Verdict.ALIKE
    assert rows[-1].as_dict()["verdict"] == "not measurably different"


def test_a_clear_difference_is_one() -> None:
    rows = compared(tasks(*"a" * 40), answered(*[False] * 40), answered(*[True] * 39, False))
    assert rows[-1].difference.verdict is Verdict.MORE
    again = compared(tasks(*"a" * 40), answered(*[True] * 39, False), answered(*[False] * 40))
    assert again[-1].difference.value == -rows[-1].difference.value


def test_one_instruction_says_nothing_of_a_difference() -> None:
    row = compared(tasks("a"), answered(False), answered(True))[0]
    assert math.isnan(row.difference.low)
    assert row.as_dict()["verdict"] == "could not be measured"
    assert lines_of([row])[1].endswith("100.0 %  +100.0: could not be measured")
