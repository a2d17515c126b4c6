"""BLEU against sacrebleu and by hand."""

import math

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylm.evaluation.bleu import bleu, bleu_counts, bleu_replicates

REFERENCE = "the cat is on the mat today"
# One word differs. Clipped n-gram matches of the seven words:
#   1: the (2), cat, on, mat, today                     6 of 7
#   2: the cat, on the, the mat, mat today              4 of 6
#   3: on the mat, the mat today                        2 of 5
#   4: on the mat today                                 1 of 4
# Equal lengths, so no brevity penalty: (6/7 * 4/6 * 2/5 * 1/4) ^ (1/4).
CHANGED = "the cat sat on the mat today"
CHANGED_SCORE = 100 * (6 / 7 * 4 / 6 * 2 / 5 * 1 / 4) ** 0.25  # 48.89
# All n-grams match, but 4 words stand against 7: exp(1 - 7/4).
SHORT = "on the mat today"
SHORT_SCORE = 100 * math.exp(1 - 7 / 4)  # 47.24
# "the" occurs three times and only two count: 4 of 5, 2 of 4 (on the, the mat), 1 of 3
# (on the mat), 0 of 2. Smoothing counts the first zero as 1/2: 1/(2*2). Penalty exp(1 - 7/5).
REPEATED = "the the on the mat"
REPEATED_SCORE = 100 * math.exp(1 - 7 / 5) * (4 / 5 * 2 / 4 * 1 / 3 * 1 / 4) ** 0.25

WORDS = st.sampled_from(["a", "b", "cat", ",", ".", "the", "mat", "sat"])
sentences = st.lists(WORDS, max_size=9).map(" ".join)


@pytest.mark.parametrize(
    ("hypothesis", "score"),
    [(CHANGED, CHANGED_SCORE), (SHORT, SHORT_SCORE), (REPEATED, REPEATED_SCORE)],
)
def test_a_pair_worked_by_hand(hypothesis: str, score: float) -> None:
    result = bleu([hypothesis], [REFERENCE])
    assert result.corpus == pytest.approx(score)
    assert result.sentences == [pytest.approx(score)]


def test_corpus_bleu_pools_counts_and_is_not_the_mean() -> None:
    # Matches and totals of CHANGED and SHORT together: 10/11, 7/9, 4/7, 2/5; lengths 11 and 14.
    pooled = 100 * math.exp(1 - 14 / 11) * (10 / 11 * 7 / 9 * 4 / 7 * 2 / 5) ** 0.25
    result = bleu([CHANGED, SHORT], [REFERENCE, REFERENCE])
    assert result.corpus == pytest.approx(pooled)
    assert result.sentence_mean == pytest.approx((CHANGED_SCORE + SHORT_SCORE) / 2)
    assert abs(result.corpus - result.sentence_mean) > 0.1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=6))
def test_equals_sacrebleu_called_directly(pairs: list[tuple[str, str]]) -> None:
    hypotheses, references = ([pair[i] for pair in pairs] for i in (0, 1))
    result = bleu(hypotheses, references)
    assert result.corpus == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert result.sentences == [
        sacrebleu.sentence_bleu(hypothesis, [reference], use_effective_order=True).score
        for hypothesis, reference in pairs
    ]


def test_the_scale_is_0_to_100_and_signatures_are_given() -> None:
    result = bleu([REFERENCE], [REFERENCE])
    assert result.corpus == pytest.approx(100)
    assert result.signature == (
        f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    )
    assert "eff:yes" in result.sentence_signature


def test_a_hypothesis_is_compared_with_its_own_reference() -> None:
    other = "a dog ran home very fast now"
    assert bleu([CHANGED, other], [REFERENCE, other]).corpus > 60
    assert bleu([CHANGED, other], [other, REFERENCE]).corpus < 10


def test_empty_texts_score_nothing_and_break_nothing() -> None:
    assert bleu([""], [""]).corpus == 0
    assert bleu(["", REFERENCE], ["", REFERENCE]).sentences == [0, pytest.approx(100)]


@pytest.mark.parametrize(("hypotheses", "references"), [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_a_wrong_number_of_texts_is_refused(hypotheses: list[str], references: list[str]) -> None:
    with pytest.raises(ValueError, match="hypotheses and"):
        bleu(hypotheses, references)


@given(st.lists(st.tuples(sentences, sentences), min_size=2, max_size=6))
def test_counts_of_texts_add_up_to_sacrebleus_corpus(pairs: list[tuple[str, str]]) -> None:
    hypotheses, references = zip(*pairs, strict=True)
    made = bleu_replicates(bleu_counts(hypotheses, references))
    assert made.value == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score)
    for left_out, score in enumerate(made.without):
        kept = [pair for i, pair in enumerate(pairs) if i != left_out]
        own, their = ([pair[side] for pair in kept] for side in (0, 1))
        assert score == pytest.approx(sacrebleu.corpus_bleu(own, [their]).score)
