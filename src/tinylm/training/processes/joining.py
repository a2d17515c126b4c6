"""How a process finds the others that it trains with: torchrun's variables, and a roll call.

``torchrun`` (and so Slurm, Kubernetes or mpirun with the same variables) starts each process with
``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``MASTER_ADDR`` and ``MASTER_PORT``. They meet in a store
of keys that the first one, or torchrun's agent, keeps. Before anything is computed each writes its
name there, so that one that is missing can be named, and then what it would train, so that ranks
which disagree are refused before the first step.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store

from tinylm.errors import ConfigError, TrainingError, shown
from tinylm.training.processes.group import ALONE, Group, LostProcessError, Processes

START_SECONDS = 60.0
"""How long the processes wait for each other at the start, unless the environment says."""
START_VARIABLE = "TINYLM_START_SECONDS"
_STEP_SECONDS = 1800.0
"""After which a process that says nothing counts as lost: longer than any validation should be."""
_WATCH_SECONDS = 1.0
_MORE_SECONDS = 5.0
_SECONDS_BETWEEN_TRIES = 0.1


@dataclass(frozen=True)
class Place:
    """What a process is told of the others when it is started."""

    rank: int
    size: int
    local_rank: int
    address: str
    port: int
    attempt: int
    """How often torchrun has started the processes before."""


def place_in(environment: Mapping[str, str]) -> Place | None:
    """Return what torchrun's variables say, or None where they are not there.

    Raises:
        ConfigError: if one is missing or no number.
    """
    if "WORLD_SIZE" not in environment or "RANK" not in environment:
        return None

    def number(name: str, default: str | None = None) -> int:
        text = environment.get(name, default)
        if text is None or not text.isdecimal():
            given = "is missing" if text is None else f"= {shown(text)} is no number"
            raise ConfigError(
                f"the environment variable {name} {given}: start the processes with torchrun, or "
                "set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as it does"
            )
        return int(text)

    size, rank = number("WORLD_SIZE"), number("RANK")
    if not 0 <= rank < size:
        raise ConfigError(f"the environment says RANK = {rank} of WORLD_SIZE = {size}: 0 is first")
    return Place(
        rank,
        size,
        number("LOCAL_RANK", str(rank)),
        environment.get("MASTER_ADDR", "127.0.0.1"),
        number("MASTER_PORT", None if size > 1 else "0"),
        number("TORCHELASTIC_RESTART_COUNT", "0"),
    )


@contextmanager
def joined(environment: Mapping[str, str] = os.environ) -> Iterator[Processes]:
    """Be one of the processes that were started together, or alone where none were.

    Args:
        environment: with torchrun's variables.

    Raises:
        ConfigError: if the variables contradict each other, or the port is in use.
        TrainingError: if processes are missing after ``START_SECONDS``: the first names them.
    """
    place = place_in(environment)
    if place is None or place.size == 1:
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank % torch.cuda.device_count())
    seconds = float(environment.get(START_VARIABLE, START_SECONDS))
    served = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = PrefixStore(f"attempt-{place.attempt}", _store(place, served, seconds))
    _roll_call(store, place, seconds)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(
        backend,
        store=store,
        rank=place.rank,
        world_size=place.size,
        timeout=timedelta(seconds=_STEP_SECONDS),
    )
    _end_with_parent()
    yield Group()
    dist.destroy_process_group()  # not after an error: it would wait for the others


def _store(place: Place, served: bool, seconds: float) -> Store:
    """Return the store that all processes share; the first keeps it unless torchrun's agent does.

    Raises:
        ConfigError: if the port is in use.
        TrainingError: if whoever keeps it cannot be reached.
    """
    keeps = place.rank == 0 and not served
    if not keeps and not _reached(place, seconds):
        raise TrainingError(
            f"rank 0 was not reached at {place.address}:{place.port} within {seconds:g} seconds: "
            "start it as well, or set MASTER_ADDR and MASTER_PORT to its own"
        )
    try:
        store: Store = dist.TCPStore(  # type: ignore[attr-defined]
            place.address,
            place.port,
            None,
            keeps,
            timeout=timedelta(seconds=seconds),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"port {place.port} of {place.address} cannot be listened at, another program may use "
            "it: set MASTER_PORT to another one"
        ) from error
    return store


def _reached(place: Place, seconds: float) -> bool:
    """Try to reach whoever keeps the store; torch's own trying writes pages to the error stream."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection((place.address, place.port), _WATCH_SECONDS).close()
        except OSError:
            time.sleep(_SECONDS_BETWEEN_TRIES)
        else:
            return True
    return False


def _roll_call(store: Store, place: Place, seconds: float) -> None:
    """Wait until all are there.

    Raises:
        TrainingError: if they are not after so many seconds.
    """
    store.set(f"here/{place.rank}", "")
    names = [f"here/{rank}" for rank in range(place.size)]
    end = time.monotonic() + seconds
    if place.rank:
        # The first says who is missing; the others wait a little longer for that.
        try:
            begins = _waited(store, ["begin"], end + _MORE_SECONDS) and store.get("begin") == b"go"
        except RuntimeError:  # the first has gone, and the store with it
            begins = False
        if not begins:
            raise LostProcessError("rank 0 has not begun: processes are missing")
        return
    if not _waited(store, names, end):
        missing = [str(rank) for rank, name in enumerate(names) if not store.check([name])]
        store.set("begin", "missing")
        time.sleep(_WATCH_SECONDS)  # so that the others have read it before the store goes
        ranks = f"rank {missing[0]} is" if len(missing) == 1 else f"ranks {', '.join(missing)} are"
        raise TrainingError(
            f"{ranks} missing of {place.size} processes after {seconds:g} seconds: start all of "
            f"them, or wait longer with {START_VARIABLE}={2 * seconds:g}"
        )
    store.set("begin", "go")


def _waited(store: Store, names: list[str], end: float) -> bool:
    """Wait until keys are set; return whether they are before the end."""
    try:
        store.wait(names, timedelta(seconds=max(0.1, end - time.monotonic())))
    except RuntimeError:  # torch's timeout
        return bool(store.check(names))
    return True


def refuse_disagreement(processes: Processes, settings: Mapping[str, Any]) -> None:
    """See to it that all processes would train the same.

    Args:
        processes: this one and the others.
        settings: what must be equal, by the key or name that is to be mended, as JSON values.

    Raises:
        ConfigError: on the first process, naming the first difference and the rank.
        LostProcessError: on the others.
    """
    if processes.size == 1:
        return
    line = bytearray(json.dumps(settings, sort_keys=True).encode() + b"\n")
    lines = processes.joined(torch.frombuffer(line, dtype=torch.uint8)).numpy().tobytes()
    own, *others = (json.loads(each) for each in lines.splitlines())
    for rank, other in enumerate(others, 1):
        for key in sorted(own.keys() | other.keys()):
            if own.get(key) == other.get(key):
                continue
            if processes.rank:
                raise LostProcessError("rank 0 has said which processes disagree")
            raise ConfigError(
                f"rank {rank} has {key} = {shown(other.get(key))}, and rank 0 has "
                f"{shown(own.get(key))}: start all processes with the same options and data"
            )


def _end_with_parent() -> None:
    """End this process when the one that started it has gone, such as by a kill.

    A process that waits for others in a collective notices nothing by itself.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
