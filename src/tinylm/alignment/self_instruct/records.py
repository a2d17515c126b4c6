"""What the steps hand on: tasks, and instances of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from tinylm.errors import AlignmentError, shown
from tinylm.reading import read_json_lines

MOST_LINE_BYTES = 1 << 20
_ADVICE = (
    'a task is {"instruction": "…", "input": "…", "output": "…", "is_classification": false}, or '
    'has "instances", a list of inputs and outputs, in place of these two'
)


@dataclass(frozen=True)
class Instance:
    """An instruction with what it is given and what is wanted of it."""

    instruction: str
    input: str
    """Empty where the instruction needs none."""
    output: str
    is_classification: bool = False
    source: str = "seed"
    """Where it came from: ``seed``, or ``made``."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "instruction": self.instruction,
            "input": self.input,
            "output": self.output,
            "is_classification": self.is_classification,
            "from": self.source,
        }


@with_config(extra="ignore")
class _Example(TypedDict):
    input: str
    output: str


@with_config(extra="ignore")
class _Line(TypedDict):
    instruction: str
    input: NotRequired[str]
    output: NotRequired[str]
    instances: NotRequired[list[_Example]]
    is_classification: NotRequired[bool]


def normal(text: str) -> str:
    """Return a text as it is compared: lower case, one space between words, no mark at its end."""
    return " ".join(text.lower().split()).rstrip(" .!?:;,")


def read_tasks(path: Path, source: str = "seed") -> list[Instance]:
    """Return the instances of a file of tasks, JSON lines, in its order.

    The form of the paper's own seed tasks, with ``instances``, is read too; keys that are not known
    are left out of account.

    Args:
        path: the file.
        source: of each instance, as it is written down.

    Raises:
        AlignmentError: for a line that is no task, naming it, an instance that stands there twice,
            and a file without any.
    """
    instances: list[Instance] = []
    places: dict[tuple[str, str], str] = {}
    lines = read_json_lines(path, _Line, AlignmentError, _ADVICE, MOST_LINE_BYTES)
    for number, line in lines:
        place = f"{path}, line {number}"
        instruction = " ".join(line["instruction"].split())
        if not instruction:
            raise AlignmentError(f"{place}: the instruction is empty: {_ADVICE}")
        for example in _examples(line, place):
            if not example["output"].strip():
                raise AlignmentError(f"{place}: the output is empty: {_ADVICE}")
            given = Instance(
                instruction,
                example["input"].strip(),
                example["output"].strip(),
                line.get("is_classification", False),
                source,
            )
            key = (normal(given.instruction), normal(given.input))
            if key in places:
                raise AlignmentError(
                    f"{place}: the instruction {shown(instruction)} with this input stands in "
                    f"{places[key]} too: leave one out"
                )
            places[key] = f"line {number}"
            instances.append(given)
    if not instances:
        raise AlignmentError(f"{path} holds no task: {_ADVICE}")
    _refuse_two_kinds(path, instances)
    return instances


def _examples(line: _Line, place: str) -> Sequence[_Example]:
    if "instances" in line:
        if "input" in line or "output" in line:
            raise AlignmentError(f"{place}: instances beside an input or output: {_ADVICE}")
        if not line["instances"]:
            raise AlignmentError(f"{place}: no instances: {_ADVICE}")
        return line["instances"]
    if "output" not in line:
        raise AlignmentError(f"{place}: no output: {_ADVICE}")
    return [_Example(input=line.get("input", ""), output=line["output"])]


def _refuse_two_kinds(path: Path, instances: Sequence[Instance]) -> None:
    kinds: dict[str, bool] = {}
    for each in instances:
        if kinds.setdefault(each.instruction, each.is_classification) != each.is_classification:
            raise AlignmentError(
                f"{path}: the instruction {shown(each.instruction)} is classification in one line "
                "and not in another: say the same of both"
            )


def as_lines(values: Iterable[dict[str, Any]]) -> str:
    """Return JSON lines."""
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def clean(text: str) -> str:
    """Return a text that a model wrote without control characters and halves of characters."""
    return _CONTROL.sub("", text.replace("\r\n", "\n"))
