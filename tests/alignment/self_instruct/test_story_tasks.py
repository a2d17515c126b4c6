"""Tasks of the story grammar: every response obeys its instruction, and a wrong rule is caught."""

from __future__ import annotations

from collections import Counter

import pytest

from tinylm.alignment.self_instruct import lessons, prompts
from tinylm.alignment.self_instruct.demands import CHECKS, Demand
from tinylm.alignment.self_instruct.prompts import Exchange
from tinylm.alignment.self_instruct.story_tasks import (
    KINDS,
    StoryTask,
    sentences,
    story_task,
    story_tasks,
)
from tinylm.data.corpora.stories import build_story
from tinylm.errors import ConfigError

TASKS = list(story_tasks(0, "train", 280))


def test_every_response_obeys_and_every_kind_and_rule_comes_up() -> None:
    for task in TASKS:
        assert task.demands
        assert all(demand.met(task.instance.output, True) for demand in task.demands)
        assert task.instance.instruction[0].isupper()
        assert not set("[]{}|<>") & set(task.instance.instruction)
    assert Counter(task.kind for task in TASKS) == dict.fromkeys(KINDS, 40)
    assert {demand.check for task in TASKS for demand in task.demands} == set(CHECKS)


def test_a_response_to_another_instruction_does_not_obey() -> None:
    def met(task: StoryTask, output: str) -> bool:
        return all(demand.met(output, True) for demand in task.demands)

    chance = Counter[str]()
    for task, other in zip(TASKS, TASKS[7:], strict=False):  # the next of the same kind
        chance[task.kind] += met(task, other.instance.output)
    for kind in ("words", "first sentence", "hero"):
        assert chance[kind] <= 6, (kind, chance[kind])
    assert chance["dialogue"] < 30
    assert chance["end"] < 30


def test_tasks_follow_from_seed_split_and_number() -> None:
    assert list(story_tasks(0, "train", 14)) == TASKS[:14]
    assert story_task(0, "train", 20) == TASKS[20]
    assert list(story_tasks(1, "train", 14)) != TASKS[:14]
    held_out = list(story_tasks(0, "validation", 70))
    assert not {each.instance.output for each in held_out if each.kind != "classification"} & {
        each.instance.output for each in TASKS
    }


def test_what_does_not_fit_is_left_out_or_refused() -> None:
    short = list(story_tasks(0, "train", 14, lambda each: len(each.output) < 500))
    assert all(len(each.instance.output) < 500 for each in short)
    with pytest.raises(ConfigError, match="longer context"):
        story_task(0, "train", 0, lambda each: False)


def test_sentences_are_all_of_a_story_and_keep_speech_whole() -> None:
    for i in range(60):
        text = build_story(3, "train", i).text
        parts = sentences(text)
        assert " ".join(" ".join(parts).split()) == " ".join(text.split())
        assert all(part.count('"') % 2 == 0 for part in parts)
        assert not any(part[0].islower() for part in parts)
        assert len(parts) > 5


@pytest.mark.parametrize(
    ("check", "values", "good", "bad"),
    [
        ("words", ("toy car", "red"), "A RED toy car.", "A red car, a toy."),
        ("words", ("cat",), "the cat's", "the cats"),
        ("dialogue", (), 'He said, "Go."', "He said to go."),
        ("no dialogue", (), "He said to go.", "“Go.”"),
        ("no dialogue", (), "He", ""),
        ("happy end", (), "He cried. He was glad.", "He was glad. He cried."),
        ("sad end", (), "He was glad. He cried.", "He was not sad."),
        ("first sentence", ("One day, it rained.",), "One day it rained! No.", "On one day, it"),
        ("answer", ("yes",), "Yes.", "Yes, it is."),
    ],
)
def test_what_is_demanded_is_met_or_not(
    check: str, values: tuple[str, ...], good: str, bad: str
) -> None:
    assert Demand(check, values).met(good, True)
    assert not Demand(check, values).met(bad, True)


@pytest.mark.parametrize("check", ["happy end", "sad end", "answer"])
def test_what_is_cut_off_has_no_end(check: str) -> None:
    for text in ("He was glad.", "He cried.", "yes"):
        assert not Demand(check, ("yes",)).met(text, False)


def test_lessons_are_prompts_that_a_writer_is_asked_and_answers_that_are_read() -> None:
    tasks = [task.instance for task in TASKS]
    instructions = {task.instruction for task in tasks}
    kinds = Counter[str]()
    for each in lessons.writing(tasks, 0, lambda exchange: True):
        kinds[each.prompt.partition("\n")[0]] += 1
        if each.prompt.startswith("Write"):
            written = prompts.new_instructions(each.response)
            assert len(written) == 1
            assert written[0] in instructions
            assert each.response.strip() not in each.prompt
            assert 1 <= each.prompt.count("\n") - 1 <= lessons.MOST_SHOWN
        elif each.prompt.startswith("Does"):
            assert prompts.yes_or_no(each.response) is not None
        else:
            first = each.prompt.startswith("Give an answer")
            assert len(prompts.instances_of(each.response, first)) == 1
    assert len(kinds) == 4
    assert lessons.following(tasks)[0] == prompts.followed(tasks[0])


def test_lessons_that_are_too_long_show_less() -> None:
    tasks = [task.instance for task in TASKS]

    def fits(exchange: Exchange) -> bool:
        return len(exchange.prompt) + len(exchange.response) < 300

    made = list(lessons.writing(tasks, 0, fits))
    lists = [each for each in made if each.prompt.startswith("Write")]
    assert lists
    assert all(fits(each) for each in lists)
    assert list(lessons.writing(tasks, 0, fits)) == made
