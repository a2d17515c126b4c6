"""Processes that start a command at the same time, of which whoever has the lock waits.

So both are there at once, however busy the machine is.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tinylm import locks


class Ended(NamedTuple):
    """A process that has ended."""

    pid: int
    status: int
    """Minus the signal, if one ended it."""
    errors: str
    """Its error stream."""


class Race:
    """Processes that start a command at once; whoever has its first lock waits for ``let_go``."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        run: Callable[[list[str]], int],
        count: int = 2,
    ) -> None:
        """Fork the processes.

        Args:
            folder: their working directory.
            command: without ``tinylm``.
            run: runs it and returns its exit status.
            count: of processes.
        """
        self._folder = folder
        self._run = run
        self._command = command
        self._start, self._started = os.pipe()
        self._go, self._gone = os.pipe()
        self._locked, self._has_lock = os.pipe()
        self._pids = [self._fork() for _ in range(count)]
        os.close(self._started)

    def _fork(self) -> int:
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            for descriptor in (self._started, self._gone):  # whose ends it waits for
                os.close(descriptor)
            null, errors = Path(os.devnull), self._error_file(os.getpid())
            sys.stdout, sys.stderr = (path.open("w") for path in (null, errors))
            sys.orig_argv[:] = ["python", "tinylm", *self._command]
            os.chdir(self._folder)
            write_holder = locks._write_holder

            def and_wait(path: Path) -> None:
                locks._write_holder = write_holder
                write_holder(path)
                os.write(self._has_lock, b".")
                os.read(self._go, 1)

            locks._write_holder = and_wait
            os.read(self._start, 1)
            status = self._run(list(self._command))
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _error_file(self, pid: int) -> Path:
        return self._folder.with_name(f"{self._folder.name}-{pid}.txt")

    def _ended(self, options: int = 0) -> Ended | None:
        """Return one that has ended, if there is one."""
        for pid in self._pids:
            ended, status = os.waitpid(pid, options)
            if ended:
                self._pids.remove(pid)
                return Ended(
                    pid, os.waitstatus_to_exitcode(status), self._error_file(pid).read_text()
                )
        return None

    def loser(self) -> Ended:
        """Wait for the one that ends while the other has the lock."""
        with_lock = 0
        while (ended := self._ended(os.WNOHANG)) is None:
            if select.select([self._locked], [], [], 0.02)[0]:
                with_lock += len(os.read(self._locked, 2))
                assert with_lock < 2, "both have the lock"
        return ended

    def let_go(self) -> Ended:
        """Let who has the lock go on, and wait for its end."""
        for descriptor in (self._gone, self._go, self._start, self._locked, self._has_lock):
            os.close(descriptor)
        ended = self._ended()
        assert ended is not None
        return ended

    def kill(self) -> Ended:
        """Kill who has the lock."""
        os.kill(self._pids[0], signal.SIGKILL)
        return self.let_go()


def race(
    folder: Path, command: Sequence[str], run: Callable[[list[str]], int], ending: str
) -> list[Ended]:
    """Return the process that was refused, and the one that had the lock.

    Args:
        folder: their working directory.
        command: without ``tinylm``.
        run: runs it and returns its exit status.
        ending: of the one with the lock: "killed", "let go", or "alone" if there is no other.
    """
    if ending == "alone":
        return [Race(folder, command, run, count=1).let_go()]
    both = Race(folder, command, run)
    return [both.loser(), both.kill() if ending == "killed" else both.let_go()]
