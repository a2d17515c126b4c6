"""Distinct-n, repetition and shares, by hand."""

import pytest

from tinylm.evaluation.diversity import distinct, ngrams, repetition, share_of


def test_ngrams_in_order() -> None:
    assert list(ngrams([1, 2, 3], 2)) == [(1, 2), (2, 3)]
    assert list(ngrams([1], 2)) == []


def test_distinct_counts_over_all_texts_and_not_across_them() -> None:
    texts = [[1, 2, 1, 2], [1, 2, 3]]
    assert distinct(texts, 1) == pytest.approx(3 / 7)  # 1, 2, 3 of seven
    # 12, 21, 12 and 12, 23: three of five; 2|1 between the texts is none.
    assert distinct(texts, 2) == pytest.approx(3 / 5)
    assert distinct(texts, 3) == pytest.approx(1)  # 121, 212, 123
    assert distinct(texts, 5) == 0
    assert distinct([], 1) == 0


def test_repetition_is_within_a_text() -> None:
    # 1212, 2121, 1212: one of three stood earlier.
    assert repetition([[1, 2, 1, 2, 1, 2]]) == pytest.approx(1 / 3)
    # The same text twice repeats nothing within either.
    assert repetition([[1, 2, 3, 4, 5]] * 2) == 0
    assert repetition([[7] * 13, [1, 2, 3, 4]]) == pytest.approx(9 / 11)  # 9 of 10 + 0 of 1
    assert repetition([[1, 1, 1]], n=1) == pytest.approx(2 / 3)
    assert repetition([[1, 2, 3]]) == 0  # no 4-gram at all


def test_share_of_a_token() -> None:
    assert share_of([[1, 5, 1], [5]], 1) == pytest.approx(1 / 2)
    assert share_of([[2, 3]], 1) == 0
    assert share_of([[], []], 1) == 0
