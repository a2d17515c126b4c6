"""Ctrl-C before any change to the disk: nothing is left of a folder, or it is a whole run."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.robustness.disk import watched
from tests.robustness.test_crashes import comparable
from tests.robustness.test_races import ADAPTER, MAKE_ADAPTER
from tinylm.locks import LOCK

COMMANDS = {
    "prune": "prune runs/tiny --share 0.5 --out out",
    "quantize": "quantize runs/tiny --method gptq -o windows=2 --out out",
    "merge": f"merge runs/tiny {ADAPTER} --out out",
}
EVERY = 3
"""Of so many changes, the command is interrupted before one, each time another one."""


def interrupting(number: int, seen: list[str]) -> Callable[[str], None]:
    """Return what notes changes, and is a Ctrl-C before one of them."""

    def before(change: str) -> None:
        seen.append(change)
        if len(seen) == number + 1:
            raise KeyboardInterrupt

    return before


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupted_command_leaves_nothing_or_a_run(
    name: str,
    tinylm: Command,
    tiny_run: Path,
    tmp_path: Path,
) -> None:
    shutil.copytree(tiny_run, tmp_path / "runs/tiny", symlinks=True)
    if name == "merge":
        assert tinylm(*MAKE_ADAPTER)[0] == 0
    command, out = shlex.split(COMMANDS[name]), tmp_path / "out"
    changes: list[str] = []
    with watched(tmp_path, changes.append, lambda path: None):
        assert tinylm(*command)[0] == 0
    expected, last = comparable(out), []
    shutil.rmtree(out)
    begun = next(i for i, change in enumerate(changes) if change == f"write out/{LOCK}")
    for number in range(begun, len(changes), EVERY):
        seen: list[str] = []
        with watched(tmp_path, interrupting(number, seen), lambda path: None):
            status, printed, err = tinylm(*command)
        place = f"before change {number}: {changes[number]}\n{err}"
        assert (status, printed) == (130, ""), place
        assert err.endswith("tinylm: interrupted\n"), place
        there = comparable(out) if out.exists() else {}
        assert there in ({}, expected), place
        last.append(bool(there))
        shutil.rmtree(out, ignore_errors=True)
    assert not all(last) and len(last) > 10
