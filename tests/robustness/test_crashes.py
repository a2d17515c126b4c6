"""Stopped before any change to the disk, a command given again ends with the same bits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.robustness.disk import KILLED, NAMES_KEPT, POWER_LOST, read_tree
from tests.robustness.server import CLASSIFY, MERGE, TINY, TRAIN, TUNE, Server, write_texts
from tinylm.locks import LOCK

CLOCK = {
    *("seconds", "seconds_training", "session_seconds", "tokens_per_second"),
    *("environment", "peak_resident_bytes", "checksum"),
}
"""Keys whose values depend on the clock and the machine, or on values that do."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


def without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_clock(held) for key, held in value.items() if key not in CLOCK}
    return [without_clock(held) for held in value] if isinstance(value, list) else value


def comparable(folder: Path, prepared: Path) -> dict[str, Any]:
    """Return all files below a folder, without what depends on the clock.

    Args:
        folder: where the last command was run.
        prepared: where those before it were; both may be named in files.
    """
    tree: dict[str, Any] = {}
    for name, content in read_tree(folder).items():
        if isinstance(content, bytes) and not name.endswith((".safetensors", ".tokens")):
            for place in (folder, prepared):
                content = content.replace(str(place).encode(), b"HERE")
        last = name.rpartition("/")[2]
        if last == LOCK:
            continue  # of a dead process
        if isinstance(content, bytes) and last.endswith((".json", ".jsonl")):
            lines = content.decode().splitlines() if last.endswith("l") else [content.decode()]
            values = [without_clock(json.loads(line)) for line in lines]
            for value in values:
                if last == "manifest.json":
                    del value["sha256"]["training.json"]
                if last == "training.json":
                    value.get("from", {}).pop("checkpoints", None)
            tree[name] = values
        elif last.endswith((".pdf", ".html", ".typ")):
            tree[name] = bool(content)
        else:
            tree[name] = content
    return tree


def check(
    server: Server,
    tmp_path: Path,
    before: Sequence[Sequence[str]],
    command: Sequence[str],
    again: Callable[[Path], Sequence[str]],
    finished: str = "",
) -> dict[str, int]:
    """Stop a command before each of its changes, go on, and compare with one that was not stopped.

    Args:
        server: runs the commands.
        tmp_path: for the folders.
        before: commands that prepare the folder.
        command: that is stopped.
        again: the command that a user gives then, from the folder as it was left.
        finished: what the command says, and fails, where its work was done already.

    Returns:
        How many different states there were of each kind.
    """
    work, states = tmp_path / "work", tmp_path / "states"
    work.mkdir()
    write_texts(work)
    for prepared in before:
        answer = server.run(work, prepared)
        assert answer.status == 0, answer.stderr
    answer = server.run(work, command, states)
    assert answer.status == 0, answer.stderr
    expected = comparable(work, work)
    changes = json.loads((states / "changes.json").read_text())
    tried = {}
    for kind in (KILLED, NAMES_KEPT, POWER_LOST):
        folders = sorted((states / kind).glob("*"), key=lambda path: int(path.name))
        tried[kind] = len(folders)
        for folder in folders:
            place = f"{kind} before change {folder.name}: {changes[int(folder.name)]}"
            given = again(folder)
            answer = server.run(folder, given)
            told = f"{place}\n{given}\n{answer.stderr}"
            assert "Traceback" not in answer.stderr, told
            assert answer.status == 0 or (finished and finished in answer.stderr), told
            assert comparable(folder, work) == expected, told
            shutil.rmtree(folder)
    return tried


def same(command: Sequence[str]) -> Callable[[Path], Sequence[str]]:
    return lambda folder: command


def resume(folder: Path) -> Sequence[str]:
    begun = (folder / "runs/run/config.yaml").exists()
    return ["train", "--resume", "runs/run"] if begun else TRAIN


DATA = ["data", *(part for setting in TINY for part in ("-o", setting))]


def test_data_preparation(server: Server, tmp_path: Path) -> None:
    tried = check(server, tmp_path, [], DATA, same(DATA))
    print(tried)


def test_training(server: Server, tmp_path: Path) -> None:
    tried = check(server, tmp_path, [DATA], TRAIN, resume)
    print(tried)


def test_fine_tuning(server: Server, tmp_path: Path) -> None:
    tried = check(server, tmp_path, [TRAIN], TUNE, same(TUNE), "is finished: choose another")
    print(tried)


def test_classification(server: Server, tmp_path: Path) -> None:
    tried = check(
        server, tmp_path, [TRAIN], CLASSIFY, same(CLASSIFY), "is finished: choose another"
    )
    print(tried)


def test_merging(server: Server, tmp_path: Path) -> None:
    tried = check(server, tmp_path, [TRAIN, TUNE], MERGE, same(MERGE), "is not empty: give --out")
    print(tried)
