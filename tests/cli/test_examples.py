"""The end of every command's help: two calls, each run as it is printed."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.test_classify import labelled
from tinylm.cli.examples import EXAMPLES
from tinylm.registry import COMMANDS


def examples(help_text: str) -> list[str]:
    """Return the calls that a help ends with."""
    _, heading, end = help_text.partition("  Examples:\n")
    assert heading, help_text
    return [line.strip() for line in end.splitlines()]


def test_every_command_and_no_other_has_examples(tinylm: Command) -> None:
    groups = {
        "plan": ["advantage", "cluster", "lora", "zero"],
        "tokenizer": ["train", "encode", "decode", "probability", "export", "import"],
    }
    inner = [f"{name} {command}" for name, commands in groups.items() for command in commands]
    assert set(EXAMPLES) == {*COMMANDS, *inner}
    for name, commands in groups.items():
        _, help_text, _ = tinylm(name, "--help")
        listed = help_text.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
        assert [line.split()[0] for line in listed if line[2] != " "] == commands


@pytest.mark.parametrize("columns", ["40", "80"])
def test_no_summary_is_cut(tinylm: Command, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for command in ([], ["plan"], ["tokenizer"]):
        _, help_text, _ = tinylm(*command, "--help")
        assert "..." not in help_text.partition("Commands:\n")[2]
    assert "the same command goes on." in " ".join(tinylm("--help")[1].split())


def test_every_example_runs_as_it_is_printed(
    tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    # In the current folder: what `make report` leaves, small, and texts and ids of a user.
    (tmp_path / "ids.txt").write_text("4 5 6\n")
    shutil.copytree(tiny_run, tmp_path / "runs/quick", symlinks=True)
    labelled(tmp_path / "labelled.jsonl")
    made = "tinylm finetune runs/quick --method sequence-classification --data labelled.jsonl"
    status, _, err = tinylm(*shlex.split(f"{made} --name labels --steps 2")[1:])
    assert status == 0, err
    pieces = (
        "tinylm train --preset quick --name pieces -o tokenizer.kind=bpe "
        "-o tokenizer.vocab_size=400 -o vectors.source=none -o training.max_steps=2 "
        "-o data.train_stories=60 -o data.validation_stories=5 -o model.hidden_size=16"
    )
    status, _, err = tinylm(*shlex.split(pieces)[1:])
    assert status == 0, err
    for command in EXAMPLES:
        _, help_text, _ = tinylm(*command.split(), "--help")
        calls = examples(help_text)
        assert len(calls) == 2
        for call in calls:
            program, *arguments = shlex.split(call)
            assert program == "tinylm"
            assert call.startswith(f"tinylm {command}")
            status, out, err = tinylm(*arguments)
            assert status == 0, (call, err)
            assert out.strip(), call
            if "--json" in arguments:
                json.loads(out)
