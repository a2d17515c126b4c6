"""Starts the ranks as processes of this machine, and ends all of them when one fails.

They speak by gloo and find each other by a file, so that no port is needed. What a rank returns is
JSON. A rank that fails writes down why and when; the others then fail, too, because their partner
is gone, so the one that failed first is named. None outlives the process that started it, however
that one ends.
"""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tinylm.atomic import write_text
from tinylm.errors import TinylmError, TrainingError
from tinylm.reading import read_json
from tinylm.training.zero.collectives import Collectives

Work = Callable[..., Any]
"""Called on every rank as ``work(collectives, *arguments)``; a function of a module."""


def run_ranks(
    work: Work, ranks: int, arguments: Sequence[Any] = (), seconds: float = 300.0
) -> list[Any]:
    """Do a piece of work on several ranks, each a process with one thread; return what each says.

    Args:
        work: returns JSON values.
        ranks: how many processes; at least 1.
        arguments: sent to each of them.
        seconds: after which they are ended.

    Raises:
        TrainingError: if a rank failed or the time is over, naming the rank; none is left then.
    """
    spawning = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = []
    with tempfile.TemporaryDirectory(prefix="tinylm-ranks-") as name:
        folder = Path(name)
        try:
            for rank in range(ranks):
                own = (rank, ranks, folder, seconds, work, tuple(arguments))
                processes.append(spawning.Process(target=_rank, args=own, daemon=True))
                processes[-1].start()
            _wait(processes, folder, seconds)
        finally:
            for process in processes:
                process.kill()
                process.join()
        return [
            read_json(_result(folder, rank), list[Any], TrainingError)[0] for rank in range(ranks)
        ]


def _wait(processes: Sequence[BaseProcess], folder: Path, seconds: float) -> None:
    """Return when all ranks are done.

    Raises:
        TrainingError: as soon as one failed, or when the time is over.
    """
    end = time.monotonic() + seconds
    running = dict(enumerate(processes))
    while running:
        wait([each.sentinel for each in running.values()], max(0.0, end - time.monotonic()))
        over = {rank: each for rank, each in running.items() if not each.is_alive()}
        failed = {rank: each.exitcode for rank, each in over.items() if each.exitcode}
        if failed:
            others = "; the other ranks were ended, too" if len(processes) > 1 else ""
            raise TrainingError(_first_failure(failed, folder) + others)
        running = {rank: each for rank, each in running.items() if rank not in over}
        if running and time.monotonic() >= end:
            raise TrainingError(
                f"{_named(running)} had not ended after {seconds:g} seconds, and all ranks were "
                "ended: allow more time or give them less to do"
            )


def _named(ranks: Collection[int]) -> str:
    numbers = ", ".join(map(str, ranks))
    return f"rank {numbers}" if len(ranks) == 1 else f"ranks {numbers}"


def _first_failure(failed: Mapping[int, int | None], folder: Path) -> str:
    """Return the message for ranks that failed, of their exit codes: of the first of them alone."""
    reasons = {
        rank: read_json(_failure(folder, rank), dict[str, Any], TrainingError)
        for rank in failed
        if _failure(folder, rank).exists()
    }
    for rank, code in failed.items():
        if rank not in reasons and code is not None:  # it could not say why; the others followed
            if code < 0:
                return f"rank {rank} was ended by {signal.Signals(-code).name}"
            return f"rank {rank} ended with exit status {code}"
    rank = min(reasons, key=lambda each: float(reasons[each]["time"]))
    return f"rank {rank} failed: {reasons[rank]['problem']}"


def _result(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.json"


def _failure(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}-failure.json"


def _rank(
    rank: int, ranks: int, folder: Path, seconds: float, work: Work, arguments: tuple[Any, ...]
) -> None:
    """Be a rank."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _be_silent(folder / f"rank-{rank}.log")
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=(folder / "meeting").as_uri(),
            rank=rank,
            world_size=ranks,
            timeout=datetime.timedelta(seconds=seconds),
        )
        said = work(Collectives(), *arguments)
        write_text(_result(folder, rank), json.dumps([said]))
        dist.barrier()  # a rank that went first would look like one that failed
    except Exception as error:  # noqa: BLE001 - whatever it is, the other ranks must know
        failure = {"time": time.monotonic(), "problem": _in_a_line(error)}
        write_text(_failure(folder, rank), json.dumps(failure))
        os._exit(1)  # without waiting for partners that may wait for this one
    dist.destroy_process_group()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _be_silent(log: Path) -> None:
    """Let nothing that a rank prints, such as gloo's greetings, reach the terminal."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)


def _in_a_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, TinylmError) else f"{type(error).__name__}: {text}"
