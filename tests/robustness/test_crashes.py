"""Stopped before any change to the disk, a command given again ends with the same bits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.robustness.disk import KILLED, NAMES_KEPT, POWER_LOST, read_tree
from tests.robustness.server import (
    CLASSIFY,
    COMPRESS,
    DISTILL,
    HALVED,
    INSTRUCT,
    MERGE,
    PRUNE,
    QUANTIZE,
    REPORT,
    REWARD,
    STARTED,
    TINY,
    TRAIN,
    TUNE,
    Server,
    write_texts,
)
from tinylm.locks import LOCK

CLOCK = {
    *("seconds", "seconds_training", "session_seconds", "tokens_per_second"),
    *("environment", "peak_resident_bytes", "checksum"),
}
"""Keys whose values depend on the clock and the machine, or on values that do."""


def without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_clock(held) for key, held in value.items() if key not in CLOCK}
    return [without_clock(held) for held in value] if isinstance(value, list) else value


def comparable(folder: Path) -> dict[str, Any]:
    """Return all files below a folder, without what depends on the clock.

    Where the clock stands still, as it does for reports, that leaves out nothing of their pages.
    """
    tree: dict[str, Any] = {}
    for name, content in read_tree(folder).items():
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
    every: int = 1,
) -> None:
    """Stop a command before each of its changes, go on, and compare with one that was not stopped.

    All is done in one place, since files name where they are.

    Args:
        server: runs the commands.
        tmp_path: for the folders.
        before: commands that prepare the folder.
        command: that is stopped.
        again: the command that a user gives then, from the folder as it was left.
        finished: what the command says, and fails, where its work was done already.
        every: tries one of so many changes, other ones for each kind of stop: where most changes
            are those of a loop that other commands are stopped in at each.
    """
    work, states = tmp_path / "work", tmp_path / "states"
    work.mkdir()
    write_texts(work)
    for prepared in before:
        answer = server.run(work, prepared)
        assert answer.status == 0, answer.stderr
    answer = server.run(work, command, states)
    assert answer.status == 0, answer.stderr
    expected = comparable(work)
    changes, counts = json.loads((states / "changes.json").read_text())
    assert counts == dict.fromkeys((KILLED, NAMES_KEPT, POWER_LOST), len(changes))
    assert len(changes) > 10  # that were seen
    assert (states / KILLED / "0").exists()
    for number, kind in enumerate(counts):
        folders = sorted((states / kind).glob("*"), key=lambda path: int(path.name))
        for folder in folders[number % every :: every]:
            shutil.rmtree(work)
            folder.rename(work)
            place = f"{kind} before change {folder.name}: {changes[int(folder.name)]}"
            given = again(work)
            answer = server.run(work, given)
            circumstances = f"{place}\n{given}\n{answer.stderr}"
            assert "Traceback" not in answer.stderr, circumstances
            assert answer.status == 0 or (finished and finished in answer.stderr), circumstances
            assert comparable(work) == expected, circumstances


def same(command: Sequence[str]) -> Callable[[Path], Sequence[str]]:
    return lambda folder: command


def resumed(run: str, command: Sequence[str]) -> Callable[[Path], Sequence[str]]:
    """Return what is given again where the folder of a run may be one already."""

    def again(folder: Path) -> Sequence[str]:
        begun = (folder / run / "config.yaml").exists()
        return ["train", "--resume", run] if begun else command

    return again


DATA = ["data", *(part for setting in TINY for part in ("-o", setting))]


def test_data_preparation(server: Server, tmp_path: Path) -> None:
    check(server, tmp_path, [], DATA, same(DATA))


def test_training(server: Server, tmp_path: Path) -> None:
    command = [*TRAIN, "-o", "training.snapshots=2"]
    check(server, tmp_path, [DATA], command, resumed("runs/run", command))


def test_fine_tuning(server: Server, tmp_path: Path) -> None:
    check(server, tmp_path, [TRAIN], TUNE, same(TUNE), "is finished: choose another")


def test_classification(server: Server, tmp_path: Path) -> None:
    check(server, tmp_path, [TRAIN], CLASSIFY, same(CLASSIFY), "is finished: choose another")


def test_merging(server: Server, tmp_path: Path) -> None:
    check(server, tmp_path, [TRAIN, TUNE], MERGE, same(MERGE), "is not empty: give --out")


def test_pruning(server: Server, tmp_path: Path) -> None:
    check(server, tmp_path, [TRAIN], HALVED, same(HALVED), "is not empty: give --out")


def test_pruning_while_training(server: Server, tmp_path: Path) -> None:
    check(server, tmp_path, [TRAIN], PRUNE, resumed("pruned", PRUNE))


def test_quantization(server: Server, tmp_path: Path) -> None:
    check(server, tmp_path, [TRAIN], QUANTIZE, same(QUANTIZE), "is not empty: give --out")


def test_rewarding(server: Server, tmp_path: Path) -> None:
    check(server, tmp_path, [TRAIN], REWARD, same(REWARD), "is not empty: give --out", every=3)


def test_compression(server: Server, tmp_path: Path) -> None:
    check(server, tmp_path, [TRAIN], COMPRESS, same(COMPRESS), "is not empty: give --out")


def test_distillation(server: Server, tmp_path: Path) -> None:
    check(server, tmp_path, [TRAIN], DISTILL, resumed("student", DISTILL))


def test_distillation_from_the_weights_of_a_pruned_run(server: Server, tmp_path: Path) -> None:
    check(server, tmp_path, [TRAIN, HALVED], STARTED, resumed("student", STARTED))


def test_instruction_tuning(server: Server, tmp_path: Path) -> None:
    check(server, tmp_path, [TRAIN], INSTRUCT, same(INSTRUCT), "is not empty: give --out")


def test_reporting(server: Server, tmp_path: Path) -> None:
    """What was measured is kept, and the pages are the same ones, bit for bit."""
    check(server, tmp_path, [TRAIN], REPORT, same(REPORT))
