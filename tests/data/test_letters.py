"""Letters: a text that stands for a seed, and one person for each name in it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.data.corpora.letters import build_letter
from tinylm.data.corpora.stories import split_of
from tinylm.errors import DataError


def test_a_letter_is_the_same_on_every_machine() -> None:
    assert build_letter(0, "train", 1) == (
        "Dear Granny, I miss you very much. It is very quiet here without you. On Wednesday I lost "
        "my golden hat. I looked everywhere. Mom found it in the garden. I was so glad! I planted "
        "a rose bush in the garden. I water it every morning. Today I saw the first green leaf. "
        "May I stay with you in the summer? Please write soon! With love, Tara"
    )


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(["train", "validation"]))
def test_a_letter_greets_tells_and_is_signed(seed: int, index: int, split: str) -> None:
    letter = build_letter(seed, split, index)  # type: ignore[arg-type]
    assert split_of(letter) == split
    greeting = re.match(r"Dear ([A-Z]\w+(?: [A-Z]\w+)?), ", letter)
    signed = re.search(r"(?:Love|friend|love|Goodbye), ([A-Z]\w+)$", letter)
    assert greeting and signed
    assert letter.count(signed[1]) == 1  # who writes says I
    assert not re.search(r"[{}\[\]|]|  ", letter)
    assert 25 <= len(letter.split()) <= 130


def test_letters_that_do_not_exist_are_refused() -> None:
    with pytest.raises(DataError, match="letter -1 of seed 0 does not exist; both must be 0 or"):
        build_letter(0, "train", -1)
