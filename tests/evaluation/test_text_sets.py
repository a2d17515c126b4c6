"""Sets of texts: measured without a text they are the others; differences are taken in pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.evaluation.bleu import bleu_counts
from tinylm.evaluation.diversity import distinct, repetition
from tinylm.evaluation.text_sets import MEASURES, TextSet, differences
from tinylm.measurement import Difference, Verdict

texts = st.lists(st.lists(st.integers(0, 5), min_size=5, max_size=15), min_size=2, max_size=6)


def text_set(ids: list[list[int]], log_probability: float = -1.0) -> TextSet:
    sums = [log_probability * len(text) for text in ids]
    return TextSet(ids, sums, [len(text) for text in ids])


@given(texts)
def test_what_is_left_is_measured_without_the_text(ids: list[list[int]]) -> None:
    own = text_set(ids)
    for name, measure in (
        *((f"distinct_{n}", lambda kept, n=n: distinct(kept, n)) for n in (1, 2, 3)),
        ("repetition", repetition),
        ("length", lambda kept: float(np.mean([len(text) for text in kept]))),
    ):
        made = MEASURES[name](own)
        assert made.value == pytest.approx(measure(ids))
        for left_out, value in enumerate(made.without):
            rest = [text for i, text in enumerate(ids) if i != left_out]
            assert value == pytest.approx(measure(rest)), name


def test_log_probabilities_are_summed_over_texts_and_over_tokens() -> None:
    own = TextSet([[1, 2], [3]], [-4.0, -1.0], [3, 1])
    assert MEASURES["log_probability"](own).value == pytest.approx(-2.5)
    assert MEASURES["log_probability_per_token"](own).value == pytest.approx(-5 / 4)


def test_texts_without_any_n_gram_have_no_repetition_to_compare() -> None:
    made = differences({"a": text_set([[1], [2]]), "b": text_set([[3], [4]])})
    assert Difference.from_result(made["repetition"]["a"]["b"]).verdict is Verdict.UNKNOWN


def test_one_text_alone_has_values_and_no_intervals() -> None:
    ids = [[1, 2, 3, 1, 2, 3, 1]]
    bleu = bleu_counts(["a b"], ["a b"])
    own = TextSet(ids, [-7.0], [7], bleu)
    made = differences({"a": own, "b": own, "true": text_set([[4, 5, 6, 7, 8, 9, 9]])}, "true")
    assert made["distance"]["a"]["b"] == [0, None, None]
    assert set(made) == {*MEASURES, "distance"}
    for name, pairs in made.items():
        for other in (pair for of in pairs.values() for pair in of.values()):
            assert Difference.from_result(other).verdict is Verdict.UNKNOWN, name


def test_sets_are_compared_text_by_text() -> None:
    random = np.random.default_rng(0)
    ids = [[int(i) for i in random.integers(0, 40, size)] for size in (20, 31, 25, 44, 18, 29)]
    likely, unlikely = text_set(ids, -1.0), text_set(ids, -1.2)
    one_text_more = TextSet(ids, [*likely.log_probabilities[:-1], -300.0], likely.num_scored)
    made = differences({"a": likely, "b": unlikely, "c": one_text_more})
    per_token = made["log_probability_per_token"]
    first = Difference.from_result(per_token["a"]["b"])
    assert first.value == pytest.approx(0.2) and first.verdict is Verdict.MORE
    # One text alone makes the difference: that is none between the ways.
    assert Difference.from_result(per_token["a"]["c"]).verdict is Verdict.ALIKE
    assert made["distinct_2"]["a"]["b"] == [0, 0, 0]
    assert made["bleu"] == {}


def test_the_distance_from_true_texts_is_compared_too() -> None:
    random = np.random.default_rng(1)
    true = [[int(i) for i in random.integers(0, 300, 40)] for _ in range(8)]
    near = [[int(i) for i in random.integers(0, 300, 40)] for _ in range(8)]
    far = [[1, 2, 3, 4] * 10 for _ in range(8)]
    hypotheses, references = ["a b c d e"] * 8, ["a b c d f"] * 8
    counts = bleu_counts(hypotheses, references)
    sets = {
        "far": TextSet(far, [-1.0] * 8, [40] * 8, counts),
        "near": TextSet(near, [-1.0] * 8, [40] * 8, counts),
        "true": text_set(true),
    }
    made = differences(sets, "true")
    assert set(made["distance"]) == {"far", "near"}
    value, low, _ = made["distance"]["far"]["near"]
    own = [abs(distinct(ids, 2) - distinct(true, 2)) + abs(repetition(ids) - repetition(true))
           for ids in (far, near)]  # fmt: skip
    assert value == pytest.approx(own[0] - own[1])
    assert low is not None and low > 0
    assert set(made["bleu"]) == {"far", "near"}
