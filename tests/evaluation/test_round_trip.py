"""How often a text comes back from its ids, and in what it differs if not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.evaluation.round_trip import DIFFERENCES, differences, round_trip
from tinylm.tokenizers.word import WordTokenizer
from tinylm.tokenizers.word_rule import normalise


@pytest.mark.parametrize(
    ("text", "decoded", "kinds"),
    [
        ("A cat.\nTwo.", "A cat.\nTwo.", []),
        ("A Cat.", "A cat.", ["capitals"]),
        ("A cat.\nTwo.", "A cat. Two.", ["line breaks", "spaces"]),
        ("A cat.\n\nTwo.", "A cat.\nTwo.", ["line breaks"]),
        ("A-cat", "A - cat", ["spaces"]),
        ("A cat. \nTwo", "A cat.\nTwo", ["spaces"]),
        ("A cat. \nTwo", "A cat.\n Two", ["spaces"]),
        ("A\nCat dog", "A cat\ndog", ["capitals", "line breaks", "spaces"]),
        ("A cat\x00", "A cat", ["characters"]),
    ],
)
def test_differences(text: str, decoded: str, kinds: Sequence[str]) -> None:
    assert differences(text, decoded) == kinds


@given(st.text("aAbB \n\t-", max_size=12), st.text("aAbB \n\t-", max_size=12))
def test_texts_without_a_difference_are_the_same(text: str, other: str) -> None:
    assert (differences(text, other) == []) == (text == other)
    assert set(differences(text, other)) <= set(DIFFERENCES)


def test_round_trip_counts_texts_without_unknown_words() -> None:
    texts = [
        "“Hi,” said Tom.\n\nThe end.",  # comes back up to its quotes
        "The end.",
        "the End.",  # case
        "The  end.",  # spaces
        "The zebra.",  # unknown
    ]
    words = sorted(Counter(w for t in texts[:4] for w in WordTokenizer([]).rule.split(t)))
    tokenizer = WordTokenizer([*words, "\n"], ["tom"])
    assert tokenizer.decode(tokenizer.encode(texts[0])) == normalise(texts[0])
    assert round_trip(texts, tokenizer) == {
        "texts": 4,
        "with_unknown": 1,
        "typographic": 1,
        "same": 2,
        "differing": {"capitals": 1, "line breaks": 0, "spaces": 1, "characters": 0},
    }
