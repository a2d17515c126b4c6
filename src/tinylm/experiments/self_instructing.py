"""Self-Instruct (Wang et al. 2023), step after step, each of which leaves a file to look at.

``seeds.jsonl`` the seed tasks, ``instructions.jsonl`` what was written and which filter refused
it, ``classification.jsonl`` which of the kept ones have a fixed set of answers, ``drafts.jsonl``
what was made of each, ``instances.jsonl`` the same in single instances, with what was refused and
why, ``set.jsonl`` the resulting set, seeds first, ``counts.json`` how many came through; ``run``
the run that is tuned on the set, and ``following.json`` how well instructions are followed before
and after.

A step goes on from the rounds that stand in its file. With a model of a run as the writer all of it
follows from the seed, so that an interrupted command ends with the same files; an endpoint may
answer otherwise when it is asked again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import with_config
from typing_extensions import TypedDict

from tinylm.alignment.self_instruct import kept, steps
from tinylm.alignment.self_instruct.filters import InstructionFilter
from tinylm.alignment.self_instruct.kept import (
    WrittenDraft,
    WrittenInstruction,
    WrittenJudgement,
    kept_instructions,
    read_lines,
)
from tinylm.alignment.self_instruct.records import Instance, as_lines
from tinylm.alignment.self_instruct.writer import Writer
from tinylm.atomic import write_text
from tinylm.config import to_dict
from tinylm.config.self_instruct import SelfInstructConfig
from tinylm.errors import AlignmentError, ConfigError
from tinylm.experiments.compressing import is_run, refuse_place
from tinylm.experiments.context import Console
from tinylm.experiments.own_training import refuse_other_recipe
from tinylm.locks import LOCK, locked
from tinylm.reading import signed

RECIPE = "self-instruct.json"
SEEDS = "seeds.jsonl"
INSTRUCTIONS = "instructions.jsonl"
CLASSIFICATION = "classification.jsonl"
DRAFTS = "drafts.jsonl"
INSTANCES = "instances.jsonl"
SET = "set.jsonl"
COUNTS = "counts.json"
FOLLOWING = "following.json"
RUN = "run"
FILES = (RECIPE, SEEDS, INSTRUCTIONS, CLASSIFICATION, DRAFTS, INSTANCES, SET, COUNTS, FOLLOWING)
"""In the order in which they are written."""


@dataclass(frozen=True)
class Asked:
    """What is asked for."""

    seeds: tuple[Instance, ...]
    number: int
    """Instructions to keep, beside those of the seeds."""
    settings: SelfInstructConfig
    seed: int


@with_config(extra="forbid")
class Recipe(TypedDict):
    """What self-instruct.json holds."""

    writer: dict[str, Any]
    number: int
    settings: dict[str, Any]
    seed: int
    seeds: list[dict[str, Any]]


@dataclass(frozen=True)
class Made:
    """What the steps before the tuning left."""

    tasks: tuple[Instance, ...]
    """The resulting set, the seed tasks first."""
    counts: Mapping[str, Any]


def make_set(out: Path, writer: Writer, asked: Asked, console: Console) -> Made:
    """Take every step up to the resulting set, or what is left of them in a folder.

    Args:
        out: a new folder, or that of an interrupted command; this process must hold its lock.
        writer: who writes.
        asked: what is asked for.
        console: who watches.

    Raises:
        ConfigError: if the folder holds something else, or what was begun with another recipe.
        AlignmentError: if a file there is damaged, or the writer cannot be asked; what was written
            before is kept.
    """
    _begin(out, _recipe(writer, asked))
    write_text(out / SEEDS, as_lines(each.as_dict() for each in asked.seeds))
    lines = _instructions(out, writer, asked, console)
    judged = _judgements(out, writer, asked, kept_instructions(lines), console)
    drafts = _drafts(out, writer, asked, judged, console)
    instances = kept.filtered(drafts, asked.seeds)
    write_text(
        out / INSTANCES,
        as_lines(
            each.as_dict() | {"refused": None if why is None else why.filter}
            for each, why in instances
        ),
    )
    tasks = (*asked.seeds, *(each for each, why in instances if why is None))
    write_text(out / SET, as_lines(each.as_dict() for each in tasks))
    counts = kept.counts(lines, judged, drafts, instances)
    counts["set"] = {"seed": len(asked.seeds), "made": len(tasks) - len(asked.seeds)}
    write_text(out / COUNTS, json.dumps(counts, indent=1))
    return Made(tasks, counts)


@contextmanager
def folder_of(out: Path, console: Console) -> Iterator[None]:
    """Hold the lock of a folder while Self-Instruct writes there.

    Raises:
        ConfigError: if it holds anything else, or is inside of a run.
        LockedError: if another process writes there.
    """
    refuse_place(out)
    if is_run(out):
        raise ConfigError(f"{out} is a run: give --out a folder elsewhere")
    with locked(out, console.warn):  # which deletes what a killed process left of a file
        names = {path.name for path in out.iterdir()} - {LOCK}
        if names - {RUN, *FILES} or (names and RECIPE not in names):
            raise ConfigError(f"{out} is not empty: give --out a new folder")
        yield


def _recipe(writer: Writer, asked: Asked) -> Recipe:
    return Recipe(
        writer=writer.describe(),
        number=asked.number,
        settings=to_dict(asked.settings),
        seed=asked.seed,
        seeds=[each.as_dict() for each in asked.seeds],
    )


def _begin(out: Path, recipe: Recipe) -> None:
    """Write the recipe down, or refuse another than the one that is there.

    More instructions than before may be asked for; which ones came first is then the same.
    """
    path = out / RECIPE
    if path.exists():
        refuse_other_recipe(path, Recipe, recipe)
        return
    write_text(path, json.dumps(signed(recipe), indent=1, ensure_ascii=True))


def _instructions(
    out: Path, writer: Writer, asked: Asked, console: Console
) -> list[WrittenInstruction]:
    path = out / INSTRUCTIONS
    lines = read_lines(path, WrittenInstruction)
    of_seeds = list(dict.fromkeys(each.instruction for each in asked.seeds))
    filters = InstructionFilter([*of_seeds, *kept_instructions(lines)], asked.settings)
    round = 1 + max((line["round"] for line in lines), default=-1)
    with console.task("Writing instructions", float(asked.number)) as done:
        made = kept_instructions(lines)
        while len(made) < asked.number and round < asked.settings.most_rounds:
            done(float(len(made)))
            answers = steps.write_instructions(
                *(writer, of_seeds, made, asked.settings, asked.seed, round)
            )
            for instruction, shown in answers:
                if len(made) == asked.number:
                    break
                why = filters.refusal(instruction)
                lines.append(
                    WrittenInstruction(
                        round=round,
                        instruction=instruction,
                        refused=None if why is None else why.filter,
                        detail="" if why is None else why.detail,
                        shown=shown,
                    )
                )
                if why is None:
                    made.append(instruction)
            write_text(path, as_lines(dict(line) for line in lines))
            round += 1
        done(float(asked.number))
    if len(made) < asked.number:
        console.warn(
            f"{len(made):,} of {asked.number:,} instructions are kept after "
            f"{asked.settings.most_rounds:,} rounds: the writer makes few new ones; raise "
            "-o most_rounds or -o temperature, give more seed tasks, or a better writer"
        )
    return lines


def _judgements(
    out: Path, writer: Writer, asked: Asked, instructions: Sequence[str], console: Console
) -> list[WrittenJudgement]:
    path = out / CLASSIFICATION
    lines = read_lines(path, WrittenJudgement)
    _refuse_others(path, [line["instruction"] for line in lines], instructions)
    size = asked.settings.written_at_once
    with console.task("Which are classification", float(len(instructions))) as done:
        while len(lines) < len(instructions):
            first = len(lines)
            judged = steps.judge(
                *(writer, instructions[first : first + size], asked.seeds, asked.settings),
                *(asked.seed, first // size),
            )
            lines += [
                WrittenJudgement(
                    instruction=each.instruction,
                    is_classification=each.is_classification,
                    answer=each.answer,
                    readable=each.readable,
                )
                for each in judged
            ]
            write_text(path, as_lines(dict(line) for line in lines))
            done(float(len(lines)))
    return lines


def _drafts(
    out: Path,
    writer: Writer,
    asked: Asked,
    judged: Sequence[WrittenJudgement],
    console: Console,
) -> list[WrittenDraft]:
    path = out / DRAFTS
    lines = read_lines(path, WrittenDraft)
    _refuse_others(
        path, [line["instruction"] for line in lines], [each["instruction"] for each in judged]
    )
    size = asked.settings.written_at_once
    with console.task("Working out instances", float(len(judged))) as done:
        while len(lines) < len(judged):
            first = len(lines)
            now = [
                (each["instruction"], each["is_classification"])
                for each in judged[first : first + size]
            ]

            def share(part: float, first: int = first, count: int = len(now)) -> None:
                done(first + part * count)

            drafts = steps.write_instances(
                *(writer, now, asked.seeds, asked.settings, asked.seed, first // size, share)
            )
            lines += [
                WrittenDraft(
                    instruction=instruction,
                    is_classification=kind,
                    answer=draft.answer,
                    instances=[[each.input, each.output] for each in draft.instances],
                    finished=list(draft.finished),
                )
                for (instruction, kind), draft in zip(now, drafts, strict=True)
            ]
            write_text(path, as_lines(dict(line) for line in lines))
            done(float(len(lines)))
    return lines


def _refuse_others(path: Path, written: Sequence[str], wanted: Sequence[str]) -> None:
    """Refuse a file whose lines are of other instructions than the step before left.

    Raises:
        AlignmentError: naming the first line.
    """
    for number, each in enumerate(written, 1):
        if number > len(wanted) or wanted[number - 1] != each:
            raise AlignmentError(
                f"{path}, line {number}: is of another instruction than the step before left: "
                f"{kept.ADVICE}"
            )
