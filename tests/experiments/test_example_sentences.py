"""The rule by which sentences are chosen for the attention figures."""

from __future__ import annotations

import pytest

from tinylm.errors import DataError
from tinylm.experiments.attention.example_sentences import (
    choose_sentences,
    returning_word,
    sentences_of,
)
from tinylm.tokenizers.word import WordSettings, WordTokenizer

PLAIN = "The old dog ran over the green hill."
SPEECH = '"I will find the ball," said the dog.'
NAMES = "Then Tim saw the dog and the dog saw Tim."
STORIES = [
    f"Short one. {PLAIN} The old dog slept under the green tree.",
    f"The cat sat. {SPEECH}\n\nThe end.",
    f"{NAMES} It was a very good day for all of them.",
]


def tokenizer(*texts: str) -> WordTokenizer:
    return WordTokenizer.train([*STORIES, *texts], WordSettings(min_frequency=1))


def test_one_of_each_kind_from_another_story_each() -> None:
    sentences = choose_sentences(STORIES, tokenizer(), 64)
    assert [sentence.text for sentence in sentences] == [PLAIN, SPEECH, NAMES]
    assert [sentence.reason for sentence in sentences] == [
        "the first without direct speech",
        "the first with direct speech",
        "the first in which a name or a long word returns",
    ]


def test_sentences_that_are_too_long_or_have_unknown_words_are_passed_over() -> None:
    long = "The dog ran and ran over the hill and over the tree and over the ball and slept."
    unknown = "The old zyzzyva ran over the green hill."
    sentences = choose_sentences([long, unknown, *STORIES], tokenizer(long), 64)
    assert sentences[0].text == PLAIN


def test_a_short_context_takes_short_sentences() -> None:
    sentences = choose_sentences([f"The old dog ran over the green hill and slept. {PLAIN}"],
                             tokenizer(), 10)  # fmt: skip
    assert [sentence.text for sentence in sentences] == [PLAIN]  # 9 tokens with its stop, and <sos>


def test_without_a_sentence_the_beginning_of_the_first_story_is_taken() -> None:
    sentences = choose_sentences(["", "the dog ran over the hill"], tokenizer(), 4)
    assert [sentence.text for sentence in sentences] == ["the dog ran"]
    assert sentences[0].reason == "the beginning of the first story"
    with pytest.raises(DataError, match="no validation story has a word"):
        choose_sentences(["", " \n"], tokenizer(), 64)


@pytest.mark.parametrize(
    ("story", "sentences"),
    [
        ('He ran. "Stop!" said Mom. "I see. Good," he said.',
         ["He ran.", '"Stop!" said Mom.']),
        ("it ran. He ran", []),
        ("One.\nTwo! Three?", ["One.", "Two!", "Three?"]),
        ("“Oh no!” he said. He ran… off.", ["“Oh no!” he said.", "He ran… off."]),
    ],
)  # fmt: skip
def test_only_whole_sentences_with_quotes_in_pairs(story: str, sentences: list[str]) -> None:
    assert list(sentences_of(story)) == sentences


@pytest.mark.parametrize(
    ("sentence", "word"),
    [
        ("The dog saw the dog.", None),  # too short a word, and no name
        ("The bird saw the bird.", "bird"),
        ("Tim saw that Tim ran.", "tim"),  # capital at its second place
        ("I know that I ran.", None),
        ("He was happy.", None),
    ],
)
def test_a_word_returns_if_it_is_long_or_a_name(sentence: str, word: str | None) -> None:
    assert returning_word(sentence) == word
