"""Files of seed tasks: both forms, and every line that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tinylm.alignment.self_instruct.records import Instance, as_lines, clean, read_tasks
from tinylm.errors import AlignmentError

LINE = {"instruction": "Say  yes.", "input": "", "output": " Yes. ", "is_classification": True}


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def test_both_forms_are_read(tmp_path: Path) -> None:
    examples = [{"input": "a", "output": "b"}, {"input": "c", "output": "d"}]
    path = written(
        tmp_path / "seeds.jsonl",
        LINE,
        {"id": "seed_task_0", "name": "x", "instruction": "Go on.", "instances": examples},
    )
    assert read_tasks(path) == [
        Instance("Say yes.", "", "Yes.", True),
        Instance("Go on.", "a", "b"),
        Instance("Go on.", "c", "d"),
    ]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    tasks = [Instance("Sag „ja“.", "Ein\nWort", "Ja", True, "made"), Instance("Go.", "", "Gone.")]
    path = tmp_path / "set.jsonl"
    path.write_text(as_lines(each.as_dict() for each in tasks), "utf-8")
    read = read_tasks(path)
    assert [(each.instruction, each.input, each.output) for each in read] == [
        (each.instruction, each.input, each.output) for each in tasks
    ]


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([], "holds no task"),
        (["text"], "line 1"),
        ([{"instruction": "a"}], "no output"),
        ([LINE | {"output": 3}], "output"),
        ([LINE | {"instruction": "  "}], "instruction is empty"),
        ([LINE | {"output": "  "}], "output is empty"),
        ([LINE | {"is_classification": "no"}], "is_classification"),
        ([LINE, LINE | {"output": "No."}], "stands in line 1 too"),
        ([LINE, LINE | {"input": "x", "is_classification": False}], "classification in one line"),
        ([LINE | {"instances": [{"input": "a", "output": "b"}]}], "beside"),
        ([{"instruction": "a", "instances": []}], "no instances"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    lines: list[Any], what: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "seeds.jsonl", *lines)
    with pytest.raises(AlignmentError) as problem:
        read_tasks(path)
    message = str(problem.value)
    assert what in message
    assert str(path) in message
    assert "\n" not in message


def test_a_text_of_a_model_keeps_no_control_characters() -> None:
    assert clean("a\x00b\x1b[2Jc\r\nd\te\ud800") == "ab[2Jc\nd\te"
