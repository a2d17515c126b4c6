"""What tokens leave open, charged by a code that could be decoded: each part by other means."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.evaluation.restoring import Restoring, Speller, atoms, changes
from tinylm.registry import TOKENIZERS
from tinylm.tokenizers.base import UNK

TEXTS = st.text(st.sampled_from("ab<unk> \n.A\u0301é'9"), max_size=20)


@given(st.text(max_size=30))
def test_atoms_are_all_of_a_text(text: str) -> None:
    assert "".join(atoms(text)) == text


def test_an_unknown_word_is_one_atom() -> None:
    assert atoms(f"The {UNK}'s cat,\n\n{UNK}!") == ["The", " <unk>", "'", "s", " cat", ",", "\n\n<unk>", "!"]  # fmt: skip  # noqa: E501


@given(TEXTS, TEXTS)
def test_the_changes_make_the_text_of_what_was_decoded(decoded: str, text: str) -> None:
    """A receiver who has the decoded text, a flag an atom, and what is spelled, has the text."""
    pairs = list(changes(decoded, text))
    assert [atom for atom, _ in pairs] == ["", *atoms(decoded)]
    assert "".join(atom if now is None else now for atom, now in pairs) == text


def test_changes_are_where_the_texts_differ() -> None:
    pairs = dict(changes(f"the {UNK} saw mom.", "The giraffe saw Mom."))
    assert pairs == {"": None, "the": "The", " <unk>": " giraffe", " saw": None, " mom": " Mom", ".": None}  # fmt: skip  # noqa: E501
    assert list(changes("a c", "z a b c")) == [("", None), ("a", "z a b"), (" c", None)]
    assert list(changes("a c", "a b c")) == [("", None), ("a", "a b"), (" c", None)]
    assert list(changes("a b", "a")) == [("", None), ("a", None), (" b", "")]


def test_spelling_by_hand() -> None:
    """Witten and Bell's estimate of worked counts: "ab" and "a" were spelled."""
    speller = Speller(["ab", "a"])
    first = (2 + 3 / 257) / 8  # a twice, b once, the end twice: 5 symbols of 3 kinds
    assert speller.probability(b"", ord("a")) == pytest.approx(first)
    # After a: b once, the end once; smoothed by what holds anywhere.
    b = (1 + 3 / 257) / 8
    assert speller.probability(b"a", ord("b")) == pytest.approx((1 + 2 * b) / 4)
    assert speller.probability(b"z", ord("a")) == pytest.approx(first)  # a context never seen
    end = (1 + 2 * (2 + 3 / 257) / 8) / 4
    assert speller.bits("a") == pytest.approx(-math.log2(first * end))


@pytest.mark.parametrize("examples", [[], ["cat", "car", "dog", "é"]])
def test_what_may_follow_adds_up_to_one(examples: list[str]) -> None:
    speller = Speller(examples)
    for context in (b"", b"c", b"ca", b"xca", "é".encode()[:1], b"anything"):
        total = math.fsum(speller.probability(context, symbol) for symbol in range(257))
        assert total == pytest.approx(1, abs=1e-12)


def test_flags_cost_what_their_share_says() -> None:
    pairs = [("a b", "a b"), ("a b", "a c"), (f"a {UNK}", "a d")]
    restoring = Restoring(pairs)
    speller = Speller([" c", " d"])
    kept = -math.log2((7 + 0.5) / 9)  # known atoms, the empty first ones too: 7 kept, 1 changed
    changed = -math.log2((1 + 0.5) / 9)
    unknown = -math.log2((1 + 0.5) / 2)
    assert restoring.bits("a b", "a b") == pytest.approx(3 * kept)
    assert restoring.bits("a b", "a dd") == pytest.approx(2 * kept + changed + speller.bits(" dd"))
    expected = 2 * kept + unknown + speller.bits(" d")
    assert restoring.bits(f"a {UNK}", "a d") == pytest.approx(expected)


def test_all_texts_of_what_was_decoded_have_no_more_than_one() -> None:
    """Kraft: probabilities of texts that restoring can say add up to 1 at most, and nearly so."""
    restoring = Restoring([("a", "b"), ("a", "bb"), ("a", "a"), ("a", "ab")])
    total = 0.0
    for length in range(7):
        for letters in itertools.product("ab", repeat=length):
            total += 2 ** -restoring.bits("a", "".join(letters))
    assert 0.2 < total <= 1


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_lossless_tokenizer_leaves_nothing_open(kind: str) -> None:
    texts = [f"Tom saw {count} dogs, and Mom saw Spot.\n" for count in range(300)]
    made = TOKENIZERS.load(kind)
    tokenizer = made.train(texts, made.Settings(kind=kind))
    restoring = Restoring.of(tokenizer, texts)
    new = "Anna saw 7 dogs."
    decoded = tokenizer.decode(tokenizer.encode(new))
    bits = restoring.bits(decoded, new)
    if made.lossless:
        assert decoded == new
        assert bits < 0.01
    else:
        assert decoded != new
        assert bits > 8


def test_a_word_that_is_read_as_unknown_is_paid_for() -> None:
    """The trap: without the charge the poorest vocabulary would look best."""
    texts = ["a cat sat. a dog ran. a cat ran. " * 3, "a bird sang. a cow mooed. "]
    word = TOKENIZERS.load("word")
    for size in (6, 60):
        tokenizer = word.train(texts, word.Settings(max_size=size, min_frequency=1))
        restoring = Restoring.of(tokenizer, texts)
        ids = tokenizer.encode(texts[1])
        bits = restoring.bits(tokenizer.decode(ids), texts[1])
        assert (1 in ids) == (size == 6)
        assert bits > 20 if size == 6 else bits < 20
