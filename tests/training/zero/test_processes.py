"""Ranks as processes: what they return, and that none is left when one fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.zero.work import fail, ranks_and_noise, unequal
from tinylm.errors import TrainingError
from tinylm.training.zero.processes import run_ranks


def pids(folder: Path, ranks: int) -> list[int]:
    """Wait for what every rank writes first, and return it."""
    files = [folder / f"pid-{rank}" for rank in range(ranks)]
    end = time.monotonic() + 120
    while not all(file.exists() and file.read_text() for file in files):
        assert time.monotonic() < end
        time.sleep(0.05)
    return [int(file.read_text()) for file in files]


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_ranks_say_who_they_are_and_nothing_else_is_heard(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run_ranks(ranks_and_noise, 2, (5,)) == [[0, 2, 5], [1, 2, 5]]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", "rank 1 failed: ValueError: of no use, in two lines; the other ranks were"),
        ("killed", "rank 1 was ended by SIGKILL; the other ranks were ended, too"),
        ("exits", "rank 1 ended with exit status 3; the other ranks were ended, too"),
    ],
)
def test_a_rank_that_fails_is_named_and_the_others_are_ended(
    how: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError) as error:
        run_ranks(fail, 2, (str(tmp_path), how), seconds=100)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not any(map(is_alive, pids(tmp_path, 2)))


def test_ranks_with_unequal_micro_batches_are_told_so() -> None:
    with pytest.raises(TrainingError, match="step: rank 1 has 2 and rank 0 has 1; give"):
        run_ranks(unequal, 2, seconds=100)


def test_time_is_limited(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="ranks 0, 1 had not ended after 12 seconds"):
        run_ranks(fail, 2, (str(tmp_path), "sleeps"), seconds=12)
    assert not any(map(is_alive, (int(f.read_text()) for f in tmp_path.iterdir())))


def test_ranks_end_when_who_started_them_is_killed(tmp_path: Path) -> None:
    code = (
        "from tests.training.zero.work import fail\n"
        "from tinylm.training.zero.processes import run_ranks\n"
        f"run_ranks(fail, 2, ({str(tmp_path)!r}, 'sleeps'), seconds=500)\n"
    )
    started = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    try:
        ranks = pids(tmp_path, 2)
    finally:
        os.kill(started.pid, signal.SIGKILL)
        started.wait()
    end = time.monotonic() + 30
    while any(map(is_alive, ranks)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_alive, ranks))
