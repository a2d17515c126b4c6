"""Starting processes of this machine that train together, by torchrun's own agent.

The agent starts them, watches them, ends the others when one ends by an error or a kill, and starts
them all again if it may. Each says why it ended in a file (``lines``), so that one line can be made
of it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tinylm.errors import TinylmError
from tinylm.training.processes.lines import LAUNCHED

_SAVING_SECONDS = 600
"""How long processes may take to save after a signal before they are killed."""


class ProcessFailedError(TinylmError):
    """A process that trained with others has ended."""

    def __init__(self, message: str, exit_status: int) -> None:
        """Say why; the command ends with that status."""
        self.exit_status = exit_status
        super().__init__(message)


def launch(arguments: Sequence[str], processes: int, restarts: int = 0) -> None:
    """Run ``tinylm`` with these arguments in so many processes until all have ended.

    Args:
        arguments: of the command line.
        processes: how many.
        restarts: how often all are started again after one has failed.

    Raises:
        ProcessFailedError: if one failed, with its line or what killed it, naming its rank; or if a
            signal ended them.
    """
    for name in ("agent.server.api", "multiprocessing.api", "rendezvous.dynamic_rendezvous"):
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
    os.environ[LAUNCHED] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    with tempfile.TemporaryDirectory(prefix="tinylm-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=restarts,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            shutdown_timeout=_SAVING_SECONDS,
        )
        try:
            elastic_launch(config, sys.executable)("-m", "tinylm", *arguments)
        except ChildFailedError as error:
            statuses = {rank: failure.exitcode for rank, failure in error.failures.items()}
            raise _failure(statuses, _said(Path(folder))) from None
        except SignalException as error:
            number = int(error.sigval)
            said = _said(Path(folder))
            raise ProcessFailedError(
                said.get(0, f"stopped by {signal.Signals(number).name}"), 128 + number
            ) from None


def _said(folder: Path) -> dict[int, str]:
    """Return the lines of the last attempt's processes, by rank."""
    lines = {}
    for path in sorted(folder.glob("*/attempt_*/*/error.json"), key=lambda path: path.parts[-3]):
        content = json.loads(path.read_text("utf-8"))
        lines[int(path.parts[-2])] = str(content["message"]["message"])
    return lines


def _failure(statuses: Mapping[int, int], said: Mapping[int, str]) -> ProcessFailedError:
    """Return the error of processes that ended, by rank.

    What a process says is its own; what one says that another one took with it is left out by it.
    """
    killed = {rank: -status for rank, status in statuses.items() if status < 0}
    for rank, number in killed.items():
        if number != signal.SIGTERM:  # which is what the agent ends the others by
            return ProcessFailedError(
                f"rank {rank} was killed by {signal.Signals(number).name}, and the others have "
                "ended; go on from the last checkpoint with --resume",
                1,
            )
    for rank in sorted(said):
        status = statuses.get(rank, 1)
        line = said[rank] if rank == 0 else f"rank {rank}: {said[rank]}"
        return ProcessFailedError(line, status if status > 0 else 1)
    rank, status = next(iter(sorted(statuses.items())))
    return ProcessFailedError(f"rank {rank} ended with status {status}", 1)
