"""Tokenizers made before: version 1 of the word rule gives the ids and texts it always gave."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID, SPECIAL_TOKENS, UNK_ID
from tinylm.tokenizers.word import WordSettings, WordTokenizer
from tinylm.tokenizers.word_rule import Rule

NAMES = {"lily", "tom", "tim", "mom"}


def rewrite(text: str, names: set[str] = NAMES - {"mom"}) -> str:
    words = dict.fromkeys(Rule(version=1).split(text))
    tokenizer = WordTokenizer(words, names & set(words), rule_version=1)
    return tokenizer.decode(tokenizer.encode(text))


@pytest.mark.parametrize(
    "text",
    [
        "Once upon a time, there was a girl. She was sad. Why? She lost it!",
        '"Hi!" she said. "I\'m Lily," said Tom.',
        '"Hi." The dog ran. "Stop!" The cat sat.',
        'Tom said, "I want to help you, mom." He left.',
        '"Come," said Lily, "And bring the ball." "Why?" asked Tom.',
        'She said the word "love" and he said "No" to it.',
        'He saw a "big red" dog. It barked.',
        "I don't know if I'll go; I've time: it's 10:30, I paid $1,000 or 3.5 (all).",
        "The well-known dog, forty-two years-old. No way--yes.",
        "The boys' ball was red. 'Yes,' said mom. The 'big' dog's ball.",
        "He ate 1 and/or 2, or 50% of it [all]",
    ],
)
def test_spacing_and_capitals(text: str) -> None:
    assert rewrite(text) == text


def test_names_lose_their_capital_after_a_determiner() -> None:
    text = "We saw Mom and Tom's mom at Mom's house. His mom met the mom of Tom."
    assert rewrite(text, {"mom", "tom"}) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # A speech that is never closed: the next `said, "` opens again.
        ('Tom said, "Hi. Mom said, "Come here." He came.', None),
        # An opening quote is missing: the two quotes in a row tell.
        ('Come." "Go now." He left.', 'Come. " "Go now." He left.'),
        # What this version cannot tell, as it always wrote it.
        ('"Hi," "said the goat. "You can go. "No."', '"Hi," "Said the goat." You can go. "No."'),
        ("A big - red dog -- and all", "A big-red dog--and all"),
        ("I saw TV.\n\nIt is OK.", "I saw tv. It is ok."),
    ],
)
def test_what_it_cannot_tell(text: str, expected: str | None) -> None:
    assert rewrite(text) == (expected or text)


def test_special_tokens() -> None:
    tokenizer = WordTokenizer(["the", "dog", "ran", "."], rule_version=1)
    assert tokenizer.decode([SOS_ID, 4, 5, PAD_ID, UNK_ID, 7, EOS_ID, SOS_ID, 4]) == (
        "The dog <unk>. The"
    )


@settings(max_examples=100)
@given(st.data())
def test_a_prefix_decodes_to_a_prefix_and_any_ids_come_back(data: st.DataObject) -> None:
    words = [
        *".,!?;:'\"-()[]$%/_@<>#",
        "the",
        "boys",
        "i",
        "i'm",
        "said",
        "she",
        "lily",
        "3",
        "000",
    ]
    tokenizer = WordTokenizer(words, {"lily"}, rule_version=1)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
    whole = tokenizer.decode(ids)
    shown = ""
    for count in range(len(ids) + 1):
        part = tokenizer.decode(ids[:count])
        assert part.startswith(shown)
        shown = part
    assert shown == whole
    ordinary = [index for index in ids if index >= len(SPECIAL_TOKENS)]
    assert tokenizer.encode(tokenizer.decode(ordinary)) == ordinary


OLD_FILE = {
    "format": "tinylm-tokenizer",
    "version": 1,
    "kind": "word",
    "rule_version": 1,
    "min_frequency": 2,
    "max_size": 100,
    "types_seen": 12,
    "fingerprint": "7f5ac9f31a01cce3",
    "vocabulary": ["<pad>", "<unk>", "<sos>", "<eos>", "lily", '"', "-", "said", ",", "hi"],
    "capitalised": ["lily"],
}


def test_a_file_of_before_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    """The file is one that tinylm wrote when version 1 was the only one."""
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(OLD_FILE))
    tokenizer = WordTokenizer.load(path)
    ids = [7, 8, 5, 9, 8, 5, 7, 4, 6, 9]
    text = 'hi\n"Said," said "lily - hi'
    assert tokenizer.encode(text) == [9, 5, 7, 8, 5, 7, 5, 4, 6, 9]
    assert tokenizer.encode_flat([text])[0].tolist() == tokenizer.encode(text)
    assert tokenizer.decode(ids) == 'Said, "Hi," said Lily-hi'
    again = tmp_path / "again.json"
    tokenizer.save(again)
    written = json.loads(again.read_text())
    del written["checksum"]
    assert written == OLD_FILE


def test_a_run_of_before_makes_the_same_vocabulary_again() -> None:
    texts = ['"Hi," said Lily - \'tis Lily\'s "ball".\n\nYes -- Lily\'s.'] * 2
    config = WordSettings(min_frequency=2, rule=1, line_breaks=False)
    tokenizer = WordTokenizer.train(texts, config)
    assert tokenizer.words == [
        *('"', "-", ".", "lily's", "'", ",", "ball", "hi", "lily", "said", "tis", "yes"),
    ]
    assert tokenizer.rule == Rule(version=1, line_breaks=False)
