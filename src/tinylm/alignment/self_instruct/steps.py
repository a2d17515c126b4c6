"""The steps before the filters: new instructions, which are classification, and instances.

Each is a function of what the steps before it left and of a seed, in rounds of a fixed size: a step
that was interrupted between two rounds goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinylm.alignment.self_instruct import prompts
from tinylm.alignment.self_instruct.records import Instance
from tinylm.alignment.self_instruct.writer import Request, Writer
from tinylm.config.self_instruct import SelfInstructConfig
from tinylm.errors import AlignmentError

Progress = Callable[[float], None]
_INSTRUCTIONS, _CLASSIFICATION, _INSTANCES = range(3)
_MOST_JUDGED = 4
"""Tokens of an answer of yes or no."""


def _nothing(share: float) -> None:
    pass


def _stream(seed: int, step: int, round: int) -> np.random.Generator:
    return np.random.default_rng((seed, step, round))


def _seed_of(seed: int, step: int, round: int) -> int:
    return int(_stream(seed, step, round).integers(1 << 31))


def demonstrations(
    seeds: Sequence[str],
    made: Sequence[str],
    settings: SelfInstructConfig,
    draw: np.random.Generator,
) -> list[str]:
    """Return instructions to show a writer, in a drawn order, none twice.

    Args:
        seeds: instructions of seed tasks.
        made: instructions that were made and kept; while there are too few of them, more seeds
            stand in their places.
        settings: how many of each: 6 and 2 in the paper.
        draw: decides which.
    """
    of_made = min(settings.shown_made, len(made))
    of_seeds = min(settings.shown_seeds + settings.shown_made - of_made, len(seeds))
    chosen = [seeds[i] for i in draw.choice(len(seeds), of_seeds, replace=False)]
    if of_made:
        chosen += [made[i] for i in draw.choice(len(made), of_made, replace=False)]
    return [chosen[i] for i in draw.permutation(len(chosen))]


def write_instructions(
    writer: Writer,
    seeds: Sequence[str],
    made: Sequence[str],
    settings: SelfInstructConfig,
    seed: int,
    round: int,
    progress: Progress = _nothing,
) -> list[tuple[str, list[str]]]:
    """Return new instructions, not filtered, each with those that its writer was shown.

    Args:
        writer: who writes them.
        seeds: instructions of the seed tasks.
        made: those that were made before and kept.
        settings: of the whole.
        seed: of the whole.
        round: which one of this step, from 0.
        progress: takes the share that is done.

    Raises:
        AlignmentError: if the writer cannot read even one instruction, or cannot be asked.
    """
    draw = _stream(seed, _INSTRUCTIONS, round)
    shown: list[list[str]] = []
    for _ in range(settings.written_at_once):
        chosen = demonstrations(seeds, made, settings, draw)
        while not writer.fits(prompts.more_tasks(chosen), settings.most_instruction_tokens):
            if len(chosen) < 2:
                raise AlignmentError(
                    f"a seed task and the {settings.most_instruction_tokens} tokens of an answer "
                    "(-o most_instruction_tokens) are more than the writer's context holds: give "
                    "shorter tasks, or a model with a longer context"
                )
            chosen = chosen[1:]
        shown.append(chosen)
    request = Request(
        settings.most_instruction_tokens,
        settings.temperature,
        settings.top_p,
        _seed_of(seed, _INSTRUCTIONS, round),
        prompts.MORE_TASKS_STOP,
    )
    answers = writer.write([prompts.more_tasks(each) for each in shown], request, progress)
    made_now: list[tuple[str, list[str]]] = []
    for answer, chosen in zip(answers, shown, strict=True):
        texts = prompts.new_instructions(answer.text)
        if not answer.finished and len(texts) > 1:
            texts = texts[:-1]  # the last of several was cut off in the middle
        elif not answer.finished:
            texts = [""]
        made_now += [(each, chosen) for each in texts]
    return made_now


@dataclass(frozen=True)
class Judged:
    """Whether an instruction is classification, as a writer says."""

    instruction: str
    is_classification: bool
    answer: str
    """As it was written; one that is neither yes nor no counts as no."""
    readable: bool


def judge(
    writer: Writer,
    instructions: Sequence[str],
    seeds: Sequence[Instance],
    settings: SelfInstructConfig,
    seed: int,
    round: int,
    progress: Progress = _nothing,
) -> list[Judged]:
    """Ask of each instruction whether it has a fixed set of answers.

    Args:
        writer: who says it.
        instructions: of this round.
        seeds: tasks of which it is known; some of both kinds are shown to a writer that needs it.
        settings: of the whole.
        seed: of the whole.
        round: which one of this step, from 0.
        progress: takes the share that is done.
    """
    draw = _stream(seed, _CLASSIFICATION, round)
    asked = []
    for instruction in instructions:
        shown: list[Instance] = []
        if writer.needs_examples:
            for kind in (True, False):
                shown += _some(_by_instruction(seeds, kind), settings.examples, draw)
            shown = [shown[i] for i in draw.permutation(len(shown))]
        asked.append(prompts.is_classification(instruction, shown))
    request = Request(
        _MOST_JUDGED,
        *(settings.instance_temperature, settings.top_p),
        _seed_of(seed, _CLASSIFICATION, round),
        ("\n",),
    )
    judged = []
    for instruction, answer in zip(
        instructions, writer.write(asked, request, progress), strict=True
    ):
        said = prompts.yes_or_no(answer.text)
        judged.append(Judged(instruction, bool(said), answer.text.strip(), said is not None))
    return judged


@dataclass(frozen=True)
class Drafts:
    """What a writer made of one instruction, not filtered."""

    instances: tuple[Instance, ...]
    finished: tuple[bool, ...]
    """Of each, whether the writer ended it."""
    answer: str
    """As it was written."""


def write_instances(
    writer: Writer,
    judged: Sequence[tuple[str, bool]],
    seeds: Sequence[Instance],
    settings: SelfInstructConfig,
    seed: int,
    round: int,
    progress: Progress = _nothing,
) -> list[Drafts]:
    """Return instances of each instruction: the answer first for classification, else the input.

    Args:
        writer: who writes them.
        judged: instructions of this round, and whether they are classification.
        seeds: tasks, some of which are shown to a writer that needs it.
        settings: of the whole.
        seed: of the whole.
        round: which one of this step, from 0.
        progress: takes the share that is done.
    """
    draw = _stream(seed, _INSTANCES, round)
    asked = []
    for instruction, first in judged:
        shown: list[Instance] = []
        if writer.needs_examples:
            shown = _some(
                [each for each in seeds if each.is_classification == first], settings.examples, draw
            )
        asked.append(prompts.an_example(instruction, first, shown))
    request = Request(
        settings.most_instance_tokens,
        *(settings.instance_temperature, settings.top_p),
        _seed_of(seed, _INSTANCES, round),
        prompts.EXAMPLE_STOP,
    )
    drafts = []
    for (instruction, first), answer in zip(
        judged, writer.write(asked, request, progress), strict=True
    ):
        pairs = prompts.instances_of(answer.text, first)
        made = tuple(Instance(instruction, *pair, first, "made") for pair in pairs)
        ended = tuple(answer.finished or i + 1 < len(made) for i in range(len(made)))
        drafts.append(Drafts(made, ended, answer.text.strip()))
    return drafts


def _by_instruction(seeds: Sequence[Instance], kind: bool) -> list[Instance]:
    """Return the first instance of every instruction of a kind."""
    first: dict[str, Instance] = {}
    for each in seeds:
        if each.is_classification == kind:
            first.setdefault(each.instruction, each)
    return list(first.values())


def _some(tasks: Sequence[Instance], most: int, draw: np.random.Generator) -> list[Instance]:
    count = min(most, len(tasks))
    return [tasks[i] for i in draw.choice(len(tasks), count, replace=False)] if count else []
