"""The states of a disk that are tried: a careless program loses something in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.robustness.disk import KILLED, NAMES_KEPT, POWER_LOST, Recorder, Tree, watched
from tinylm.atomic import write_text


def careless(path: Path) -> None:
    path.write_text("new")


def renaming(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("new")
    other.replace(path)


def syncing_the_file_alone(path: Path) -> None:
    with path.with_name("other").open("w") as file:
        file.write("new")
        file.flush()
        os.fsync(file.fileno())
    path.with_name("other").replace(path)


def careful(path: Path) -> None:
    write_text(path, "new")


@pytest.mark.parametrize(
    ("write", "killed", "names_kept", "power_lost"),
    [
        (careless, {b"old", b"", b"n", b"new"}, {b"old"}, {b"old"}),
        (renaming, {b"old", b"new"}, {b"old", b""}, {b"old"}),
        (syncing_the_file_alone, {b"old", b"new"}, {b"old", b"new"}, {b"old"}),
        (careful, {b"old", b"new"}, {b"old", b"new"}, {b"old", b"new"}),
    ],
)
def test_a_file_holds_what_can_be_there(
    tmp_path: Path,
    write: Callable[[Path], None],
    killed: set[bytes],
    names_kept: set[bytes],
    power_lost: set[bytes],
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    recorder = Recorder(tmp_path)
    recorder.start()
    with watched(tmp_path, recorder.before, recorder.sync):
        write(path)
    recorder.before("the end")
    recorder.close()

    def contents(trees: list[Tree]) -> set[object]:
        return {tree["file"] for tree in trees}

    assert contents(recorder.states[KILLED]) == killed
    assert contents(recorder.states[NAMES_KEPT]) == names_kept
    assert contents(recorder.states[POWER_LOST]) == power_lost
