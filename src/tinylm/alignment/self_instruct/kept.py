"""What the steps leave in files: one object a line, whose form is checked when it is read again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import with_config
from typing_extensions import TypedDict

from tinylm.alignment.self_instruct.filters import (
    INSTANCE_FILTERS,
    INSTRUCTION_FILTERS,
    Refusal,
    refuse_instances,
)
from tinylm.alignment.self_instruct.records import Instance
from tinylm.errors import AlignmentError
from tinylm.reading import read_json_lines

ADVICE = "put it back as it was, or delete it: the step that wrote it is then done again"


@with_config(extra="forbid")
class WrittenInstruction(TypedDict):
    """A line of instructions.jsonl."""

    round: int
    instruction: str
    refused: str | None
    """The filter that refused it; null: it is kept."""
    detail: str
    """What it is like, or the word that is forbidden."""
    shown: list[str]
    """Instructions that its writer was shown."""


@with_config(extra="forbid")
class WrittenJudgement(TypedDict):
    """A line of classification.jsonl."""

    instruction: str
    is_classification: bool
    answer: str
    readable: bool


@with_config(extra="forbid")
class WrittenDraft(TypedDict):
    """A line of drafts.jsonl: what was made of one instruction, before the filters."""

    instruction: str
    is_classification: bool
    answer: str
    instances: list[list[str]]
    """Input and output of each."""
    finished: list[bool]


Line = TypeVar("Line")


def read_lines(path: Path, kind: type[Line]) -> list[Line]:
    """Return the lines of a step's file, none if it is not there.

    Raises:
        AlignmentError: for a line that no step has written, naming it.
    """
    if not path.exists():
        return []
    return [line for _, line in read_json_lines(path, kind, AlignmentError, ADVICE)]


def kept_instructions(lines: Sequence[WrittenInstruction]) -> list[str]:
    """Return the instructions that no filter refused, in their order."""
    return [line["instruction"] for line in lines if line["refused"] is None]


def filtered(
    drafts: Sequence[WrittenDraft], seeds: Sequence[Instance]
) -> list[tuple[Instance, Refusal | None]]:
    """Return every instance that was made, and why it is not kept, or None: it is."""
    instances, finished = [], []
    for draft in drafts:
        for (given, output), ended in zip(draft["instances"], draft["finished"], strict=True):
            instances.append(
                Instance(draft["instruction"], given, output, draft["is_classification"], "made")
            )
            finished.append(ended)
    return list(zip(instances, refuse_instances(instances, finished, seeds), strict=True))


def counts(
    instructions: Sequence[WrittenInstruction],
    judgements: Sequence[WrittenJudgement],
    drafts: Sequence[WrittenDraft],
    instances: Sequence[tuple[Instance, Refusal | None]],
) -> dict[str, Any]:
    """Return how many there are after every step, and what each filter refused."""
    of_instructions = Counter(line["refused"] for line in instructions)
    of_instances = Counter(None if why is None else why.filter for _, why in instances)
    kept = [each for each, why in instances if why is None]
    return {
        "instructions": {
            "written": len(instructions),
            "refused": {name: of_instructions[name] for name in INSTRUCTION_FILTERS},
            "kept": of_instructions[None],
        },
        "classification": {
            "yes": sum(each["is_classification"] for each in judgements),
            "no": sum(not each["is_classification"] for each in judgements),
            "neither yes nor no": sum(not each["readable"] for each in judgements),
        },
        "instances": {
            "written": len(instances),
            "answers without any": sum(not draft["instances"] for draft in drafts),
            "refused": {name: of_instances[name] for name in INSTANCE_FILTERS},
            "kept": len(kept),
        },
        "tasks": {"with an instance": len({each.instruction for each in kept})},
    }
