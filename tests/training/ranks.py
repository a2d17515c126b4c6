"""Several processes in one process group, each of which runs a function of a test."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tinylm.training.processes.group import Group

_SECONDS = 120


def run_ranks(function: Callable[..., None], size: int, folder: Path, *arguments: Any) -> None:
    """Call ``function(group, folder, *arguments)`` in so many processes that have found each other.

    Their threads, files and failures are their own; a failure in one ends all, and is raised here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "store"
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        mp.spawn(_rank, (function, size, str(store), folder, arguments), nprocs=size)
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _rank(
    rank: int,
    function: Callable[..., None],
    size: int,
    store: str,
    folder: Path,
    arguments: tuple[Any, ...],
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(store, size),
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=_SECONDS),
    )
    try:
        function(Group(), folder, *arguments)
    finally:
        dist.destroy_process_group()
