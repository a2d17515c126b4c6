"""Prompts, and what answers mean: as they are trained on, as endpoints write them, and nonsense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.alignment.self_instruct import prompts
from tinylm.alignment.self_instruct.records import Instance

STORY = Instance("Tell a story.", "A dog.", 'He said: "Go!"\n\nThey went.')
BARE = Instance("Tell a story.", "", "They went.")
LABEL = Instance("Is it sad?", "He cried.", "yes", True)


@pytest.mark.parametrize("instance", [STORY, BARE, LABEL])
def test_what_is_trained_on_is_read_as_it_was_meant(instance: Instance) -> None:
    exchange = prompts.worked_out(instance)
    pairs = prompts.instances_of(exchange.response, instance.is_classification)
    assert pairs == [(instance.input, instance.output)]
    judged = prompts.judged(instance)
    assert prompts.yes_or_no(judged.response) == instance.is_classification
    followed = prompts.followed(instance)
    assert followed.response.strip() == instance.output
    assert all(part in followed.prompt for part in (instance.instruction, instance.input))


@pytest.mark.parametrize(
    ("answer", "first", "wanted"),
    [
        ("Input: a\nOutput: b\n\nExample 2\nInput: c\nOutput: d", False, [("a", "b"), ("c", "d")]),
        ("Output: b\nOutput: d", False, [("", "b"), ("", "d")]),
        ("Input: None\nOutput: b", False, [("", "b")]),
        ("Input: <noinput>\nOutput: b", False, [("", "b")]),
        ("Just a story.", False, [("", "Just a story.")]),
        ("Input: a", False, []),
        ("Input: a\nOutput:", False, [("a", "")]),
        ("Output: b\nTask: another\nOutput: c", False, [("", "b")]),
        ("Answer: yes\nInput: a\n\nAnswer: no\nInput: c", True, [("a", "yes"), ("c", "no")]),
        ("Output: yes\nInput: a", True, [("a", "yes")]),
        ("yes", True, []),
        ("", False, []),
    ],
)
def test_instances_of_an_answer(answer: str, first: bool, wanted: list[tuple[str, str]]) -> None:
    assert prompts.instances_of(answer, first) == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (" Tell a story.", ["Tell a story."]),
        (" Tell  one.\nTask 10: Tell two.\nTask 11:", ["Tell one.", "Tell two."]),
        (" Tell one.\nAnd more.", ["Tell one."]),
        ("", [""]),
    ],
)
def test_instructions_of_an_answer(answer: str, wanted: list[str]) -> None:
    assert prompts.new_instructions(answer) == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [(" Yes", True), ("no.", False), ("**Yes**, it is", True), ("Nobody", None), ("", None)],
)
def test_yes_or_no(answer: str, wanted: bool | None) -> None:
    assert prompts.yes_or_no(answer) is wanted


def test_a_prompt_for_tasks_shows_them_in_order_and_asks_for_the_next() -> None:
    prompt = prompts.more_tasks(["One\ntask.", "Two."])
    assert prompt.splitlines()[1:] == ["Task 1: One task.", "Task 2: Two.", "Task 3:"]


def test_shown_tasks_are_worked_out_before_the_question() -> None:
    prompt = prompts.an_example("Do it.", False, [STORY])
    assert prompt.startswith(prompts.an_example("Tell a story.", False) + " Input: A dog.\nOutput:")
    assert prompt.endswith("Task: Do it.\nExample:")
    judged = prompts.is_classification("Do it.", [LABEL, STORY])
    assert [line for line in judged.splitlines() if line.startswith("Fixed")] == [
        "Fixed set: Yes",
        "Fixed set: No",
        "Fixed set:",
    ]


@given(st.text(max_size=200), st.booleans())
def test_no_answer_breaks_the_reading(answer: str, first: bool) -> None:
    for pair in prompts.instances_of(answer, first):
        assert all(isinstance(part, str) and "\x00" not in part for part in pair)
    assert all("\n" not in each for each in prompts.new_instructions(answer))
    prompts.yes_or_no(answer)
