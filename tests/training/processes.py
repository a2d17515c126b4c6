"""Runs of the command line as processes of their own, that can be killed and limited.

Importing torch takes seconds, a tiny run half of one. So one fresh interpreter imports everything,
and forks a child for each command; a child is a process like any other to signals and limits.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

TINYLM = Path(sys.executable).with_name("tinylm")
"""The installed console script."""


class Processes:
    """Starts ``tinylm`` commands; ``close`` ends the interpreter that they are forked from."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.training.processes"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, arguments: list[str], folder: Path, largest_file: int | None = None) -> Process:
        """Start one command in ``folder``; no file may grow beyond ``largest_file`` bytes."""
        assert self._parent.stdin is not None
        job = {"arguments": arguments, "folder": str(folder), "largest_file": largest_file}
        self._parent.stdin.write(json.dumps(job) + "\n")
        self._parent.stdin.flush()
        return Process(int(self.answer()), folder, self)

    def run(
        self, arguments: list[str], folder: Path, largest_file: int | None = None
    ) -> tuple[int, str]:
        """Run one command to its end; return its exit status and its error stream."""
        process = self.start(arguments, folder, largest_file)
        return process.wait(), process.errors()

    def answer(self) -> str:
        assert self._parent.stdout is not None
        line = self._parent.stdout.readline()
        assert line, "the forking interpreter has ended"
        return line

    def has_answer(self) -> bool:
        return bool(select.select([self._parent.stdout], [], [], 0.0002)[0])

    def close(self) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait()


class Process:
    """A command under way."""

    def __init__(self, pid: int, folder: Path, processes: Processes) -> None:
        self.pid = pid
        self.folder = folder
        self._processes = processes
        self._status: int | None = None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal, wait for the end and return the exit status, or minus the signal."""
        os.kill(self.pid, number)
        return self.wait()

    def kill_when(self, ready: Callable[[], bool]) -> bool:
        """Send SIGKILL as soon as ``ready``; return False if the process ended before."""
        while not self.is_over():
            if ready():
                return self.kill() == -signal.SIGKILL
        return False

    def is_over(self) -> bool:
        if self._status is None and self._processes.has_answer():
            self.wait()
        return self._status is not None

    def wait(self) -> int:
        if self._status is None:
            self._status = int(self._processes.answer())
        return self._status

    def errors(self) -> str:
        return (self.folder / "stderr.txt").read_text("utf-8")


def _serve() -> None:
    for name in (
        "torch._dynamo",  # which the first optimizer imports
        "tinylm.cli",
        "tinylm.data.corpora.stories",
        "tinylm.experiments.training.measure",
        "tinylm.tokenizers.word",
    ):
        importlib.import_module(name)
    for line in sys.stdin:
        job: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run_child(job)
        print(pid, flush=True)
        status = os.waitpid(pid, 0)[1]
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run_child(job: dict[str, Any]) -> None:
    from tinylm.cli import main

    folder = Path(job["folder"])
    os.chdir(folder)
    for name, descriptor in (("stdout.txt", 1), ("stderr.txt", 2)):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    if job["largest_file"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"],) * 2)
    sys.argv = ["tinylm", *job["arguments"]]
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as an interpreter does with what nobody catches
        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
