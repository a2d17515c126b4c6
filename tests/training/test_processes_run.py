"""Runs of several processes: killed, started again, resumed by another number, refused."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.test_resume import check_same_end
from tests.training.tiny import write_config
from tinylm.checkpoint import damage, load_checkpoint, load_training_state, newest
from tinylm.checkpoint.shards import FOLDER
from tinylm.checkpoint.writing import to_single_files
from tinylm.errors import CheckpointError, ConfigError
from tinylm.training.processes.joining import place_in
from tinylm.training.processes.launching import _failure
from tinylm.training.processes.lines import leave_line

LAST = 60
SETTINGS = (
    f"training.max_steps={LAST}",
    "training.accumulation_steps=2",
    "training.checkpoint_interval=7",
    "training.log_interval=2",
    "training.validation_interval=30",
    "training.keep_checkpoints=99",
    "training.threads=1",
    "model.dropout=0.2",
)
_SECONDS = 120


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("config")
    return write_config(folder / "config.yaml", cache, *SETTINGS)


def started(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start ``tinylm train`` in a folder."""
    own = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.Popen(
        [sys.executable, "-m", "tinylm", "train", *arguments],
        cwd=folder,
        env=own | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Leave no process behind when a test fails."""
    try:
        yield process
    finally:
        for pid in [*ranks(process.pid), process.pid]:
            if process.poll() is None:
                os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=_SECONDS)


def ranks(parent: int) -> list[int]:
    """Return the processes that a process has started, the first rank first."""
    text = Path(f"/proc/{parent}/task/{parent}/children")
    pids = [int(pid) for pid in text.read_text().split()] if text.exists() else []
    numbered = []
    for pid in pids:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        own = [each for each in environment if each.startswith(b"RANK=")]
        numbered += [(int(own[0].removeprefix(b"RANK=")), pid)] if own else []
    return [pid for _, pid in sorted(numbered)]


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + _SECONDS
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)


def line(errors: str) -> list[str]:
    return [each for each in errors.splitlines() if each.startswith("tinylm: ")]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Path:
    """A run of two processes that nothing stopped."""
    folder = tmp_path_factory.mktemp("two")
    with ending(started(folder, "--config", str(config), "--name", "run", "--processes", "2")) as p:
        out, errors = p.communicate(timeout=_SECONDS)
    assert p.returncode == 0, errors
    assert out == "runs/run\n"  # the first alone says so
    return folder / "runs" / "run"


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="ranks are seen in /proc, which only Linux has"
)


@needs_proc
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_all_and_is_named(
    tmp_path: Path, config: Path, uninterrupted: Path, rank: int
) -> None:
    """What is left goes on to the same bits; a tenth of the checkpoints is enough for that."""
    given = ("--config", str(config), "--name", "run", "--processes", "2")
    with ending(started(tmp_path, *given)) as process:
        wait_for(tmp_path / "runs/run/checkpoints/step-21", process)
        pids = ranks(process.pid)
        assert len(pids) == 2
        os.kill(pids[rank], signal.SIGKILL)
        killed = time.monotonic()
        _, errors = process.communicate(timeout=_SECONDS)
        assert time.monotonic() - killed < 30  # on a busy machine; 1 to 2 on a quiet one
    assert process.returncode == 1
    assert line(errors) == [
        f"tinylm: rank {rank} was killed by SIGKILL, and the others have ended; go on from the "
        "last checkpoint with --resume"
    ]
    assert not any(map(is_there, pids))
    checkpoints = tmp_path / "runs/run/checkpoints"
    left = newest(checkpoints)
    assert left is not None and (left / FOLDER).is_dir()
    if rank == 0:  # by two again
        with ending(started(tmp_path, "--resume", "runs/run", "--processes", "2")) as process:
            errors = process.communicate(timeout=_SECONDS)[1]
        assert process.returncode == 0, errors
        check_same_end(tmp_path / "runs/run", uninterrupted, LAST)
        return
    for size in (1, 4):  # by another number: the same text in the same order, other dropout
        with ending(
            started(
                tmp_path, "--resume", "runs/run", "--processes", str(size),
                "-o", f"training.max_steps={LAST + size}",
            )
        ) as process:  # fmt: skip
            errors = process.communicate(timeout=_SECONDS)[1]
        assert process.returncode == 0, errors
        state = load_training_state(checkpoints / f"step-{LAST + size}")
        whole = load_training_state(uninterrupted / f"checkpoints/step-{LAST}")
        assert state.numbers["tokens"] >= whole.numbers["tokens"]
        assert sum(name.startswith("rng/cpu") for name in state.tensors) == size


@needs_proc
def test_processes_that_torchrun_starts_again_go_on(
    tmp_path: Path, config: Path, uninterrupted: Path
) -> None:
    """With checkpoints that are written while training goes on."""
    given = ("--config", str(config), "--name", "run", "--processes", "2", "--restarts", "1")
    with ending(started(tmp_path, *given, "-o", "training.async_checkpoints=true")) as process:
        wait_for(tmp_path / "runs/run/checkpoints/step-14", process)
        os.kill(ranks(process.pid)[1], signal.SIGKILL)
        errors = process.communicate(timeout=_SECONDS)[1]
    assert process.returncode == 0, errors
    assert "Going on after step" in errors
    check_same_end(tmp_path / "runs/run", uninterrupted, LAST)


@needs_proc
def test_a_signal_saves_and_a_kill_of_the_parent_leaves_no_orphan(
    tmp_path: Path, config: Path, uninterrupted: Path
) -> None:
    given = ("--config", str(config), "--name", "run", "--processes", "2")
    with ending(started(tmp_path, *given)) as process:
        wait_for(tmp_path / "runs/run/checkpoints/step-7", process)
        os.kill(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=_SECONDS)[1]
    assert process.returncode == 130
    [said] = line(errors)
    assert "stopped by SIGINT after step" in said
    assert said.endswith("go on: tinylm train --resume runs/run --processes 2")
    with ending(started(tmp_path, "--resume", "runs/run", "--processes", "2")) as process:
        wait_for(tmp_path / "runs/run/checkpoints/step-28", process)
        pids = ranks(process.pid)
        process.kill()
        process.wait()
        end = time.monotonic() + 30
        while any(map(is_there, pids)) and time.monotonic() < end:
            time.sleep(0.05)
        assert not any(map(is_there, pids))
    with ending(started(tmp_path, "--resume", "runs/run", "--processes", "2")) as process:
        errors = process.communicate(timeout=_SECONDS)[1]
    assert process.returncode == 0, errors
    for name in ("model.safetensors", "training.safetensors"):
        ends_as, expected = (
            (run / f"checkpoints/step-{LAST}/{name}").read_bytes()
            for run in (tmp_path / "runs/run", uninterrupted)
        )
        assert ends_as == expected, name


def by_hand(
    folder: Path, config: Path, rank: int, size: int, port: int, *arguments: str
) -> subprocess.Popen[str]:
    """Start one rank as Slurm would."""
    variables = {
        "RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "TINYLM_START_SECONDS": "16", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    return started(
        folder, "--config", str(config), "--name", "run", *arguments, environment=variables
    )


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


def ends(processes: Sequence[subprocess.Popen[str]]) -> tuple[list[int], list[str]]:
    """Return how processes ended, and the lines that they said."""
    codes, lines = [], []
    for process in processes:
        with ending(process):
            _, errors = process.communicate(timeout=_SECONDS)
            codes.append(process.returncode)
            lines += line(errors)
            assert "Traceback" not in errors
    return codes, lines


def test_ranks_that_disagree_are_refused(tmp_path: Path, config: Path) -> None:
    port = free_port()
    pair = [
        by_hand(tmp_path, config, rank, 2, port, "-o", f"training.learning_rate={rank + 1}e-3")
        for rank in range(2)
    ]
    codes, lines = ends(pair)
    assert codes == [1, 1]
    assert lines == [
        "tinylm: rank 1 has training.learning_rate = 0.002, and rank 0 has 0.001: start all "
        "processes with the same options and data"
    ]
    assert not (tmp_path / "runs").exists()


def test_a_missing_rank_is_named_and_a_port_in_use(tmp_path: Path, config: Path) -> None:
    port = free_port()
    pair = [by_hand(tmp_path, config, rank, 3, port) for rank in (0, 2)]
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        taken = busy.getsockname()[1]
        alone = by_hand(tmp_path, config, 0, 2, taken)
        codes, lines = ends([alone])
    assert codes == [1]
    assert lines == [
        f"tinylm: port {taken} of 127.0.0.1 cannot be listened at, another program may use it: set "
        "MASTER_PORT to another one"
    ]
    codes, lines = ends(pair)
    assert codes == [1, 1]
    assert lines == [
        "tinylm: rank 1 is missing of 3 processes after 16 seconds: start all of them, or wait "
        "longer with TINYLM_START_SECONDS=32"
    ]


def test_torchrun_starts_it_as_well(tmp_path: Path, config: Path, uninterrupted: Path) -> None:
    torchrun = Path(sys.executable).with_name("torchrun")
    process = subprocess.run(
        [
            torchrun, "--standalone", "--nproc-per-node", "2", "-m", "tinylm", "train",
            "--config", str(config), "--name", "run",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    check_same_end(tmp_path / "runs/run", uninterrupted, LAST)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--processes", "3"], "training.batch_size = 4 .* 3 processes .* such as 3"),
        (["--processes", "2", "-o", "training.bach=1"], "unknown key training.bach"),
        (["--processes", "2", "--resume", "nothing"], "nothing does not exist"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, config: Path, arguments: list[str], words: str
) -> None:
    own = [] if "--resume" in arguments else ["--config", str(config), "--name", "run"]
    with ending(started(tmp_path, *own, *arguments)) as process:
        errors = process.communicate(timeout=_SECONDS)[1]
    assert process.returncode == 1
    [said] = line(errors)
    assert re.search(words, said), said
    assert "Traceback" not in errors
    assert not (tmp_path / "runs").exists()


# --- what is written ---


def test_shards_are_read_and_made_single_files(uninterrupted: Path, tmp_path: Path) -> None:
    """The end of a run is in single files; what shards hold is read as the same tensors."""
    assert not list(uninterrupted.glob("checkpoints/*/shards"))
    checkpoint = load_checkpoint(uninterrupted)
    assert checkpoint.weights


def sharded_rank(group: Any, folder: Path) -> None:
    """Write a checkpoint in which one tensor is divided, and one is on one rank alone."""
    from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

    from tests.training.tiny import tiny_model, tiny_tokenizer
    from tinylm.checkpoint import TrainingState
    from tinylm.training.keeping import Folder
    from tinylm.training.processes.keeping import SharedKeeper

    mesh = init_device_mesh("cpu", (group.size,))
    state = TrainingState(
        3,
        {"best_step": 3},
        {
            "divided": distribute_tensor(torch.arange(10.0).view(5, 2), mesh, [Shard(0)]),
            f"own/{group.rank}": torch.tensor(float(group.rank)),
            "rng": torch.arange(5, dtype=torch.uint8),
        },
    )
    for at_once in (True, False):
        kept: list[Path] = []
        keeper = SharedKeeper(Folder(folder / str(at_once), 2, kept.append), group, at_once)
        keeper.save(tiny_model(), tiny_tokenizer(), state, best=True)
        keeper.finish()
        assert kept == ([folder / str(at_once) / "step-3"] if group.rank == 0 else [])


def test_divided_tensors_are_put_together(tmp_path: Path) -> None:
    from tests.training.ranks import run_ranks
    from tests.training.tiny import tiny_model

    run_ranks(sharded_rank, 3, tmp_path / "checkpoints")
    for name in ("True", "False"):
        path = tmp_path / "checkpoints" / name / "step-3"
        assert (path.parent / "best").resolve() == path
        assert (path.parent / "last").resolve() == path
        assert len(list((path / FOLDER).iterdir())) == 3
        before = load_training_state(path).tensors, load_checkpoint(path).weights
        assert torch.equal(before[0]["divided"], torch.arange(10.0).view(5, 2))
        assert [float(before[0][f"own/{rank}"]) for rank in range(3)] == [0, 1, 2]
        for key, weight in tiny_model().state_dict().items():
            assert torch.equal(before[1][key], weight)
        to_single_files(path)
        assert not (path / FOLDER).exists() and damage(path) is None
        after = load_training_state(path).tensors, load_checkpoint(path).weights
        for old, new in zip(before, after, strict=True):
            assert old.keys() == new.keys()
            assert all(torch.equal(old[key], new[key]) for key in old)
        to_single_files(path)  # is left as it is


def test_damaged_shards_are_noticed(tmp_path: Path) -> None:
    from tests.training.ranks import run_ranks

    run_ranks(sharded_rank, 2, tmp_path / "checkpoints")
    path = tmp_path / "checkpoints" / "True" / "step-3"
    first, second = sorted((path / FOLDER).iterdir())
    content = first.read_bytes()
    first.write_bytes(content[:-1] + b"?")
    assert damage(path) == f"shards/{first.name} has changed since it was written"
    first.write_bytes(content)
    assert damage(path) is None
    second.unlink()
    assert damage(path) == f"shards/{second.name} is missing"
    with pytest.raises(CheckpointError, match="is missing"):
        load_checkpoint(path)
    (path / FOLDER / "more.safetensors").write_bytes(b"")
    assert "says nothing of 'shards/more.safetensors'" in (damage(path) or "")


# --- what is said ---


def test_variables_of_torchrun() -> None:
    assert place_in({}) is None
    place = place_in({"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "5"})
    assert place is not None and (place.local_rank, place.address, place.attempt) == (
        1, "127.0.0.1", 0,
    )  # fmt: skip
    for variables, words in (
        ({"RANK": "2", "WORLD_SIZE": "2", "MASTER_PORT": "5"}, "RANK = 2 of WORLD_SIZE = 2"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_PORT is missing"),
        ({"RANK": "0", "WORLD_SIZE": "x", "MASTER_PORT": "5"}, "WORLD_SIZE = 'x' is no number"),
    ):
        with pytest.raises(ConfigError, match=words):
            place_in(variables)


def test_one_line_of_many_ends() -> None:
    def said(statuses: dict[int, int], lines: dict[int, str]) -> str:
        return str(_failure(statuses, lines))

    assert said({0: 1, 1: 1}, {0: "a", 1: "b"}) == "a"
    assert said({0: -15, 1: 1}, {1: "b"}) == "rank 1: b"
    assert said({0: 1, 1: -9}, {0: "a"}).startswith("rank 1 was killed by SIGKILL")
    assert said({0: -15, 2: 3}, {}) == "rank 0 ended with status -15"
    assert _failure({0: 130}, {0: "stopped"}).exit_status == 130


def test_who_shows_a_line(tmp_path: Path) -> None:
    file = tmp_path / "error.json"
    agent = {"TORCHELASTIC_ERROR_FILE": str(file)}
    assert not leave_line("a", {})
    assert not leave_line("b", agent | {"RANK": "0"})
    assert leave_line("c", agent | {"RANK": "1"})
    assert leave_line("d", agent | {"RANK": "0", "TINYLM_LAUNCHED": "1"})
    assert json.loads(file.read_text())["message"]["message"] == "d"
