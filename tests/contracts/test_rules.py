"""What every rule of the registry must hold."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.tiny import tiny_tokenizer
from tinylm.alignment.rules import Rule, RuleReward
from tinylm.alignment.samples import Sample
from tinylm.config import field_help, method_settings
from tinylm.errors import ConfigError
from tinylm.registry import RULES
from tinylm.report.references import REFERENCES
from tinylm.tokenizers.base import SOS_ID

Perfect = tuple[dict[str, Any], str, str]
TOLD = "Tom ran to the old tree in the park with a big red kite and sang for a long time. "
PERFECT: dict[str, Perfect] = {
    "happy-end": ({}, "", f"{TOLD}Then he went home and was very happy."),
    "sad-end": ({}, "", f"{TOLD}Then he went home and was very sad."),
    "dialogue": ({}, "", f'{TOLD}"I want to go home," said Tom.'),
    "short": ({}, "", TOLD * 2),
    "words": ({"words": ("kite", "park")}, "", TOLD + "It rained."),
    "no-repetition": ({}, "", f"{TOLD}Then he went home and slept."),
    "animal": ({}, "", f"{TOLD}A dog came. The dog barked. Two mice saw it."),
}
"""Settings, a prompt and a response that earns 1."""
WORSE: dict[str, str] = {
    "happy-end": f"{TOLD}Then he went home and was very sad.",
    "sad-end": f"{TOLD}Then he went home and was very happy.",
    "dialogue": f"{TOLD}He wanted to go home, he said.",
    "short": TOLD * 40,
    "words": "Tom ran to the old tree with a big red kite and sang for a long, long, long time.",
    "no-repetition": TOLD * 3,
    "animal": f"{TOLD}A dog came. He barked.",
}
OTHERS: dict[str, Any] = {"words": ("tree",)}
PIECES = (
    *[
        "happy",
        "sad",
        "not",
        "dog",
        "mice",
        ".",
        "!",
        "?",
        "'",
        "the",
        "end",
        "kite",
        "learned",
        "that",
    ],
    "\n\n",
    '"',
)
TEXT = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(PIECES),
        max_size=60,
    ).map(" ".join),
)


def rule(name: str, **settings: Any) -> Rule:
    kind = RULES.load(name)
    made: Rule = kind(kind.Settings(**settings))
    return made


def test_every_rule_has_its_cases() -> None:
    assert PERFECT.keys() == WORSE.keys() == set(RULES)


@pytest.mark.parametrize("name", RULES)
def test_it_says_what_it_is(name: str) -> None:
    kind = RULES.load(name)
    assert set(re.findall(r"\[\[(\w+)\]\]", kind.explanation)) <= set(REFERENCES)
    assert all(help_text for _, help_text in field_help(kind.Settings))
    assert dataclasses.is_dataclass(kind.Settings)


@pytest.mark.parametrize("name", RULES)
def test_a_perfect_story_earns_one_and_a_worse_one_less(name: str) -> None:
    settings, prompt, response = PERFECT[name]
    judge = rule(name, **settings)
    assert judge.score(prompt, response, True) == 1
    assert judge.score(prompt, WORSE[name], True) < 0.9


@pytest.mark.parametrize("name", RULES)
def test_the_prompt_alone_earns_nothing(name: str) -> None:
    settings, _, response = PERFECT[name]
    judge = rule(name, **settings)
    for empty in ("", " ", "\n", ".", '"', "!?"):
        assert judge.score(response, empty, True) == 0
    assert judge.score(response, "He.", True) < 0.1
    assert judge.score("", response, True) == judge.score(response, response, True)


@pytest.mark.parametrize("name", RULES)
def test_a_word_or_two_are_not_enough(name: str) -> None:
    settings, _, response = PERFECT[name]
    words = response.split()
    for count in (1, 2, 4):
        assert rule(name, **settings).score("", " ".join(words[-count:]), True) <= count / 20


@pytest.mark.parametrize("name", RULES)
@given(prompt=TEXT, response=TEXT, finished=st.booleans())
def test_any_text_has_a_score_between_0_and_1_always_the_same(
    name: str, prompt: str, response: str, finished: bool
) -> None:
    scores = {rule(name).score(prompt, response, finished) for _ in range(2)}
    assert len(scores) == 1
    assert 0 <= scores.pop() <= 1
    assert rule(name).score("", response, finished) == rule(name).score(prompt, response, finished)


@pytest.mark.parametrize("name", RULES)
def test_capitals_and_curly_marks_change_nothing(name: str) -> None:
    settings, prompt, response = PERFECT[name]
    for text in (response, WORSE[name], "“I don’t know,” said Tom. He didn’t laugh."):
        scores = {
            rule(name, **settings).score(prompt, each, True)
            for each in (text, text.upper(), text.replace("’", "'"))
        }
        assert len(scores) == 1


@pytest.mark.parametrize(
    ("name", "setting"),
    [(name, f.name) for name in RULES for f in dataclasses.fields(RULES.load(name).Settings)],
)
def test_every_setting_has_an_effect(name: str, setting: str) -> None:
    usual = rule(name)
    value = getattr(usual.Settings(), setting)
    changed = rule(name, **{setting: OTHERS.get(setting, 1 if value != 1 else 2)})
    texts = [
        PERFECT[name][2],
        WORSE[name],
        "He was glad. A dog ran.",
        "He was sad. It ran.",
        '"Go!"',
        TOLD * 3,
    ]
    assert any(usual.score("", t, True) != changed.score("", t, True) for t in texts)


@pytest.mark.parametrize("name", RULES)
def test_samples_are_judged_by_their_text(name: str) -> None:
    tokenizer = tiny_tokenizer()
    heard: list[tuple[str, str, bool]] = []

    class Listening(RULES.load(name)):  # type: ignore[misc]
        def score(self, prompt: str, response: str, finished: bool) -> float:
            heard.append((prompt, response, finished))
            return float(super().score(prompt, response, finished))

    prompt = (SOS_ID, *tokenizer.encode("the cat"))
    ids = tuple(tokenizer.encode("saw the dog . the ball ."))
    reward = RuleReward(Listening(Listening.Settings()), tokenizer)
    scores = reward([Sample(prompt, ids, True), Sample(prompt, ids, False)])
    assert [each[0] for each in heard] == ["The cat"] * 2
    assert [each[1] for each in heard] == ["saw the dog. The ball."] * 2
    assert [each[2] for each in heard] == [True, False]
    assert scores == [rule(name).score(*each) for each in heard[:2]]


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("words", "words=[]", "words"),
        ("words", "words=[dog,dog]", "a word stands there twice"),
        ("words", "words=[Dog]", "words"),
        ("no-repetition", "length=0", "length"),
        ("short", "most_words=0", "most_words"),
        ("animal", "words=[dog]", "words is a setting of words, not of animal"),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        method_settings(RULES, name, [setting])
