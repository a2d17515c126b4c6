"""ROUGE-L beside the package rouge-score, a table of dynamic programming, and worked numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.alignment.self_instruct.rouge import Known, f1, lcs_length, words

OF_PACKAGE = [
    ("Write a story about a dog.", "write a Story that has a dog!", 0.7692307692307692),
    (
        "Tell a story that uses the words ball, tree and dog.",
        "Tell a story that uses the words cat, hat and sun.",
        0.7272727272727273,
    ),
    ("a b c d e", "e d c b a", 0.2),
    ("the cat sat on the mat", "the mat sat on the cat", 0.6666666666666666),
    ("Don't do that, it's 3 o'clock.", "Do not do that, it is 3 of the clock", 0.5263157894736842),
    ("Write a tale with a sad end", "Please write me one little story without any dialogue", 0.125),
    ("one", "one", 1.0),
    ("a a b a b b a", "a b a b", 0.7272727272727273),
    ("x y z", "p q r", 0.0),
]
"""F1 of ``rouge_score.rouge_scorer.RougeScorer(["rougeL"])``, version 0.1.2."""
LISTS = st.lists(st.sampled_from("abcd"), max_size=12)


def by_table(first: Sequence[str], second: Sequence[str]) -> int:
    row = [0] * (len(second) + 1)
    for a in first:
        before = row[:]
        for j, b in enumerate(second, 1):
            row[j] = before[j - 1] + 1 if a == b else max(before[j], row[j - 1])
    return row[-1]


@pytest.mark.parametrize(("first", "second", "wanted"), OF_PACKAGE)
def test_f1_is_that_of_the_package(first: str, second: str, wanted: float) -> None:
    assert f1(words(first), words(second)) == pytest.approx(wanted, abs=1e-12)
    assert f1(words(second), words(first)) == pytest.approx(wanted, abs=1e-12)


@given(LISTS, LISTS)
def test_length_is_that_of_the_table(first: list[str], second: list[str]) -> None:
    assert lcs_length(first, second) == by_table(first, second) == lcs_length(second, first)


@given(st.lists(st.sampled_from("ab"), max_size=6), st.lists(st.sampled_from("ab"), max_size=6))
def test_length_is_that_of_all_subsequences(first: list[str], second: list[str]) -> None:
    def subsequences(of: list[str]) -> set[tuple[str, ...]]:
        return {part for n in range(len(of) + 1) for part in combinations(of, n)}

    longest = max(map(len, subsequences(first) & subsequences(second)))
    assert lcs_length(first, second) == longest


@given(st.lists(LISTS.map(" ".join), max_size=5), LISTS.map(" ".join), st.floats(0, 1))
def test_the_nearest_of_many_is_what_a_search_without_a_bound_finds(
    known: list[str], text: str, above: float
) -> None:
    values = [f1(words(text), words(each)) for each in known]
    nearest = Known(known).nearest(text, above)
    if nearest is None:
        assert all(value <= above for value in values)
    else:
        assert nearest[1] == max(values) > above
        assert nearest[0] == known[values.index(max(values))]


def test_common_words_in_another_order_are_not_similar() -> None:
    assert Known(["a b c d e"]).nearest("e d c b a", 0.7) is None


def test_a_limit_is_not_above_itself() -> None:
    text = "the cat sat on the mat"
    value = f1(words(text), words("the mat sat on the cat"))
    assert Known([text]).nearest("the mat sat on the cat", value) is None
