"""Rules on texts whose scores are known, and on stories."""

from __future__ import annotations

from typing import Any

import pytest

from tinylm.alignment.rules.animal import ANIMALS
from tinylm.alignment.rules.happy_end import JOY, SORROW
from tinylm.alignment.rules.texts import long_enough, sentences, words
from tinylm.data.corpora.stories import build_story
from tinylm.registry import RULES

STORIES = [build_story(1, "train", i).text for i in range(60)]


def score(name: str, text: str, finished: bool = True, **settings: Any) -> float:
    rule = RULES.load(name)
    return float(rule(rule.Settings(**({"least_words": 0} | settings))).score("", text, finished))


def test_words_and_sentences() -> None:
    assert words("Tom's well-known DOG didn’t say 3 words, “no”.") == [
        *("tom's", "well-known", "dog", "didn't", "say", "words", "no")
    ]
    text = 'He said, "Go home!" Then it rained... Mr. Fox?\n\nthe end'
    assert [" ".join(each) for each in sentences(text)] == [
        *("he said go home", "then it rained", "mr", "fox", "the end")
    ]
    assert sentences(" ?! \n\n . ") == []
    assert [long_enough(n, 4) for n in (0, 1, 4, 9)] == [0, 0.25, 1, 1]
    assert long_enough(0, 0) == 1


@pytest.mark.parametrize(
    ("text", "happy"),
    [
        ("He was sad. Then Tom laughed.", True),
        ("He laughed. Then Tom was sad.", False),
        ("He laughed and cried.", False),
        ("He cried and laughed.", True),
        ("Tom was not sad. He ate.", False),
        ("Tom was not happy.", False),
        ("Tom smiled. He was not afraid any more.", True),
        ("Tom smiled. They didn't cry.", True),
        ("Tom smiled because Ann never laughed at him.", True),
        ("He was scared, but Ann hugged him.", True),
        ("He was happy, but the ball was lost.", False),
        ("He was glad. When you are sad I will come.", True),
        ("They played. They ran home.", False),
        ("Tom was glad. The dog slept. They ate cake.", False),
        ("Tom was glad. They ate cake. The end.", True),
        ("They were glad. They ate. Tom had learned that it hurts to be alone.", True),
        ("They were glad. They ate. Remember, do not cry.", True),
        ("They ate. The moral of the story is: be happy.", False),
        ('"I am so happy!" said Tom.', True),
        ("HAPPY", True),
        ("unhappy", False),
        ("The end.", False),
    ],
)
def test_how_a_story_ends(text: str, happy: bool) -> None:
    assert score("happy-end", text) == happy
    assert score("happy-end", text, finished=False) == 0


def test_the_words_of_feeling_are_one_or_the_other() -> None:
    assert not JOY & SORROW


def test_a_sad_end_is_no_happy_one() -> None:
    for text, sad in (
        ("He was glad. Then he cried.", 1),
        ("He cried. Then he was glad.", 0),
        ("He was not sad.", 0),
        ("He was sad. Remember, be happy.", 1),
        ("He went home.", 0),
    ):
        assert score("sad-end", text) == sad
        assert score("sad-end", text, finished=False) == 0


def test_dialogue_is_words_in_quotation_marks() -> None:
    for text, share in (
        ('"Go!" he said.', 0.5),
        ("“Go!” he said. “No,” said she.", 1),
        ('"" or "..." is no word', 0),
        ("'Go!' he said", 0),
        ('It was 5" long', 0),
    ):
        assert score("dialogue", text, speeches=2) == share


def test_short_is_as_many_words_and_an_end() -> None:
    assert score("short", "a b c d", most_words=4) == 1
    assert score("short", "a b c d e", most_words=4) == 0.8
    assert score("short", "a b", most_words=4) == 1
    assert score("short", "a b", most_words=4, least_words=20) == 0.5
    assert score("short", "a b", finished=False, most_words=4) == 0


def test_each_given_word_earns_its_share_once() -> None:
    wanted = ("dog", "rain", "ball")
    assert score("words", "The dog. The DOG's dog!", words=wanted) == pytest.approx(1 / 3)
    assert score("words", "The dogs rained on balls", words=wanted) == 0
    assert score("words", "rain Dog (ball)", words=wanted) == 1
    assert score("words", "rain rain", words=("rain",), least_words=4) == 0.5


def test_repetition_is_counted_in_runs_of_words() -> None:
    assert score("no-repetition", "a b c a b c", length=2) == pytest.approx(3 / 5)
    assert score("no-repetition", "a b c a b d", length=3) == 1
    assert score("no-repetition", "a a a a", length=1) == 0.25
    assert score("no-repetition", "a b", length=3) == 0
    assert score("no-repetition", "a b c", length=1, least_words=4) == 0.75


def test_sentences_that_name_an_animal_are_counted_once() -> None:
    assert score("animal", "A dog saw a cat.") == pytest.approx(1 / 3)
    assert score("animal", "A dog. The wolves! Two puppies' home?") == 1
    assert score("animal", "The dog's ball.", sentences=1) == 1
    assert score("animal", "A dogged bear-like catalogue.", sentences=1) == 0
    assert score("animal", "dog " * 50) == pytest.approx(1 / 3)
    plurals = "mice geese wolves foxes puppies ponies monkeys sheep fish deer finches calves"
    assert set(plurals.split()) - ANIMALS == {"finches"}


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("happy-end", 0.35, 0.7),  # the others end with a quiet sentence
        ("sad-end", 0.0, 0.2),
        ("dialogue", 0.95, 1.01),
        ("short", 0.5, 0.7),
        ("words", 0.0, 0.2),
        ("no-repetition", 0.95, 1.0),
        ("animal", 0.2, 0.6),
    ],
)
def test_true_stories_score_as_they_should(name: str, least: float, most: float) -> None:
    rule = RULES.load(name)
    judge = rule(rule.Settings())
    scores = [judge.score("", story, True) for story in STORIES]
    assert least <= sum(scores) / len(scores) <= most
