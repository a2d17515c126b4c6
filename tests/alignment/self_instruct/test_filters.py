"""Every filter by an example that it alone refuses, and by what must hold of any set."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.alignment.self_instruct import filters
from tinylm.alignment.self_instruct.filters import (
    INSTANCE_FILTERS,
    INSTRUCTION_FILTERS,
    InstructionFilter,
    refuse_instances,
)
from tinylm.alignment.self_instruct.records import Instance
from tinylm.alignment.self_instruct.rouge import f1, words
from tinylm.config.self_instruct import FilterConfig

SEED = "Tell a story about a dog that lost a ball."
REFUSED = {
    filters.EMPTY: "   ",
    filters.SHORT: "Tell me everything.",
    filters.LONG: "Tell " + "on " * 150,
    filters.BEGINNING: "- tell a story of two cats",
    filters.FORBIDDEN: "Describe the images of two cats.",
    filters.COPY: "tell a story about a dog that lost a  ball",
    filters.SIMILAR: "Tell a story about a cat that lost a ball.",
}


def test_every_filter_has_an_example() -> None:
    assert REFUSED.keys() == set(INSTRUCTION_FILTERS)


@pytest.mark.parametrize("name", INSTRUCTION_FILTERS)
def test_an_instruction_is_refused_by_its_filter(name: str) -> None:
    refusal = InstructionFilter([SEED], FilterConfig()).refusal(REFUSED[name])
    assert refusal is not None
    assert refusal.filter == name


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Tell me everything.", False),
        ("Tell me everything now.", True),
        ("a " * 149 + "end", True),
        ("a " * 150 + "end", False),
        ("Draw a picture of music.", True),  # children's stories are about such things
        ("Write the imagery down well.", True),  # no forbidden word, only its beginning
        ("Tell <unk> a story of two.", False),
        ("1. Tell a story of two.", False),
    ],
)
def test_the_limits_are_where_the_paper_has_them(text: str, kept: bool) -> None:
    assert (InstructionFilter([], FilterConfig()).refusal(text) is None) == kept


def test_a_kept_instruction_is_compared_with_and_a_refused_one_is_not() -> None:
    kept = InstructionFilter([], FilterConfig())
    assert kept.refusal("Write a tale of five brave mice.") is None
    assert kept.refusal("Write a tale of five brave cats.") is not None
    # 5 of 6 words are common with the refused one, 4 with the first.
    assert kept.refusal("Write that story of six brave cats") is None


def test_settings_move_the_limits() -> None:
    near = REFUSED[filters.SIMILAR]
    assert InstructionFilter([SEED], FilterConfig(most_similar=0.95)).refusal(near) is None
    strict = FilterConfig(most_similar=0.0, forbidden_words=("pear",), least_words=1)
    refusal = InstructionFilter([SEED], strict).refusal("Pear")
    assert refusal is not None
    assert refusal.filter == filters.FORBIDDEN


WORDS = ["tell", "write", "a", "the", "story", "dog", "cat", "of", "no"]


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join), max_size=12))
def test_no_two_that_are_kept_are_similar(instructions: list[str]) -> None:
    keeper = InstructionFilter([], FilterConfig())
    kept = [each for each in instructions if keeper.refusal(each) is None]
    for i, first in enumerate(kept):
        assert 4 <= len(words(first)) <= 150
        for second in kept[:i]:
            assert f1(words(first), words(second)) <= 0.7
    # What is refused in one order of asking would break this, or is too short.
    again = InstructionFilter(kept, FilterConfig())
    assert all(again.refusal(each) is not None for each in instructions)


GOOD = Instance("Tell a story.", "A dog.", "The dog ran home.", False, "made")
BAD = {
    filters.NO_OUTPUT: [replace(GOOD, output=" .")],
    filters.UNFINISHED: [replace(GOOD, output="The dog ran")],
    filters.ECHO: [replace(GOOD, output="a dog")],
    filters.OF_SEED: [replace(GOOD, output="The seed.")],
    filters.REPEATED: [GOOD, GOOD],
    filters.CONTRADICTED: [replace(GOOD, output="The dog sat.")],
}


def test_every_filter_of_instances_has_an_example() -> None:
    assert BAD.keys() == set(INSTANCE_FILTERS)


def verdicts(instances: list[Instance], ended: list[bool] | None = None) -> list[str | None]:
    seeds = [replace(GOOD, output="The seed.", source="seed")]
    made = refuse_instances(instances, ended or [True] * len(instances), seeds)
    return [None if each is None else each.filter for each in made]


@pytest.mark.parametrize("name", INSTANCE_FILTERS)
def test_an_instance_is_refused_by_its_filter(name: str) -> None:
    bad = BAD[name]
    last = verdicts([GOOD, *bad], [True] * len(bad) + [name != filters.UNFINISHED])
    assert last[-1] == name
    # Where two contradict each other, nobody knows which one is right.
    assert last[0] == (filters.CONTRADICTED if name == filters.CONTRADICTED else None)


def test_what_repeats_the_instruction_or_leaves_the_output_open_is_refused() -> None:
    assert verdicts([replace(GOOD, output="Tell a story!")]) == [filters.ECHO]
    assert verdicts([replace(GOOD, output="The story:")]) == [filters.NO_OUTPUT]


def test_other_inputs_and_other_instructions_do_not_contradict() -> None:
    other = replace(GOOD, input="A cat.", output="The cat sat.")
    assert (
        verdicts([GOOD, other, replace(GOOD, instruction="Tell two.", output="No.")]) == [None] * 3
    )


def test_a_refused_instance_contradicts_nothing() -> None:
    assert verdicts([GOOD, replace(GOOD, output="The dog")], [True, False]) == [
        None,
        filters.UNFINISHED,
    ]


TEXTS = st.sampled_from(["", "a", "A.", "b", "c d"])


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=8))
def test_of_what_is_kept_an_input_has_one_output(pairs: list[tuple[str, str]]) -> None:
    made = [Instance("Do it.", first, second, False, "made") for first, second in pairs]
    kept = [each for each, why in zip(made, verdicts(made), strict=True) if why is None]
    asked = [each.input.lower().rstrip(".") for each in kept]
    assert len(set(asked)) == len(asked)
    assert all(each.output for each in kept)
