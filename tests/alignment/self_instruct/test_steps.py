"""The steps: what a writer is shown, what is asked, and that each follows from the seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.alignment.self_instruct.writers import Scripted
from tinylm.alignment.self_instruct import prompts, steps
from tinylm.alignment.self_instruct.records import Instance
from tinylm.alignment.self_instruct.seeds import seed_tasks
from tinylm.alignment.self_instruct.writer import Written
from tinylm.config.self_instruct import SelfInstructConfig
from tinylm.errors import AlignmentError

SEEDS = [f"seed {i}" for i in range(20)]
MADE = [f"made {i}" for i in range(20)]
TASKS = [
    Instance("Tell me.", "", "Told."),
    Instance("Tell me.", "more", "Told more."),
    Instance("Go on.", "Once", "upon a time."),
    Instance("Yes or no?", "It rains.", "yes", True),
]


@given(st.integers(1, 20), st.integers(0, 20), st.integers(0, 99))
def test_eight_are_shown_six_seeds_and_two_that_were_made(
    seeds: int, made: int, number: int
) -> None:
    shown = steps.demonstrations(
        SEEDS[:seeds], MADE[:made], SelfInstructConfig(), np.random.default_rng(number)
    )
    of_made = [each for each in shown if each.startswith("made")]
    assert len(set(shown)) == len(shown)
    assert len(of_made) == min(2, made)
    assert len(shown) - len(of_made) == min(seeds, 8 - len(of_made))


def test_the_order_and_the_choice_are_drawn() -> None:
    draws = [
        tuple(steps.demonstrations(SEEDS, MADE, SelfInstructConfig(), np.random.default_rng(i)))
        for i in range(50)
    ]
    assert len(set(draws)) == 50
    assert {each for shown in draws for each in shown} == {*SEEDS, *MADE}
    assert any(not shown[-1].startswith("made") for shown in draws)


def test_what_does_not_fit_is_shown_less() -> None:
    writer = Scripted()
    settings = SelfInstructConfig(written_at_once=3)
    made = steps.write_instructions(writer, SEEDS, MADE, settings, 0, 0)
    for prompt in writer.prompts:
        assert writer.fits(prompt, None)
        assert prompt.endswith("Task 7:")  # a heading and six tasks: two fewer than eight
    assert all(len(shown) == 6 for _, shown in made)
    assert {request.most for request in writer.requests} == {80}


def test_a_writer_that_can_read_nothing_is_refused() -> None:
    class Blind(Scripted):
        def fits(self, prompt: str, most: int | None) -> bool:
            return False

    with pytest.raises(AlignmentError, match="longer context"):
        steps.write_instructions(Blind(), SEEDS, MADE, SelfInstructConfig(), 0, 0)


def test_rounds_follow_from_seed_and_number() -> None:
    def run(seed: int, round: int) -> list[tuple[str, list[str]]]:
        settings = SelfInstructConfig(written_at_once=4)
        return steps.write_instructions(Scripted(), SEEDS, MADE, settings, seed, round)

    assert run(1, 2) == run(1, 2)
    assert len({str(run(seed, round)) for seed in (1, 2) for round in (0, 1)}) == 4


def test_an_answer_that_was_cut_off_gives_no_half_instruction() -> None:
    class Cut(Scripted):
        def _answer(self, prompt: str, rng: object) -> Written:
            return Written(" Tell one whole task.\nTask 3: Tell ha", False)

    made = steps.write_instructions(Cut(), SEEDS, [], SelfInstructConfig(written_at_once=1), 0, 0)
    assert [each for each, _ in made] == ["Tell one whole task."]


def test_a_judge_is_shown_tasks_of_both_kinds_each_once() -> None:
    writer = Scripted()
    judged = steps.judge(writer, ["Sing a song."] * 6, TASKS, SelfInstructConfig(), 0, 0)
    assert [each.readable for each in judged] == [each.answer != "?" for each in judged]
    assert all(each.is_classification == (each.answer == "Yes") for each in judged)
    for prompt in writer.prompts:
        assert prompt.count("Tell me.") == 1
        assert prompt.count("set: Yes") == 1
        assert prompt.count("set: No") == 2
    trained = Scripted()
    trained.needs_examples = False
    steps.judge(trained, ["Sing a song."], TASKS, SelfInstructConfig(), 0, 0)
    assert trained.prompts == [prompts.is_classification("Sing a song.")]


def test_the_answer_comes_first_for_classification_and_the_input_else() -> None:
    writer = Scripted()
    drafts = steps.write_instances(
        writer, [("Is it so?", True), ("Sing.", False)], TASKS, SelfInstructConfig(), 0, 0
    )
    first, second = writer.prompts
    assert "Answer: yes\nInput: It rains." in first
    assert "Told" not in first
    assert "Input: Once\nOutput: upon a time." in second
    assert "yes" not in second
    assert [each.output for each in drafts[0].instances] in (["yes", "no"], ["no", "yes"])
    assert all(each.is_classification and each.source == "made" for each in drafts[0].instances)
    assert all(draft.finished[:-1] == (True,) * len(draft.finished[:-1]) for draft in drafts)


def test_the_seed_tasks_of_the_package_can_be_used() -> None:
    tasks = seed_tasks()
    assert len(tasks) == len({each.instruction for each in tasks}) == 32
    assert sum(each.is_classification for each in tasks) >= 6
