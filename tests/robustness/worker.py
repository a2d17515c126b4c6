"""Cases are run in a forked process of bounded memory and processor time, one after the other.

What a case may end in: ``refused`` (one clear line), ``same`` (as if nothing had been changed), or
``other`` (another result). Anything else is a failure: another exception, a message of several
lines, a process that dies, hangs or asks for more memory than it is given.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tinylm.errors import TinylmError

MORE_MEMORY = 2 << 30
"""Bytes of address space that a case may take beyond those of the process it is forked from."""
PROCESSOR_SECONDS = 60
PATIENCE_SECONDS = 900
"""After which a case that uses no processor time counts as hanging, on however busy a machine."""
LONGEST_MESSAGE = 800


@dataclass(frozen=True)
class Outcome:
    """How a case ended."""

    case: str
    ending: str
    """refused, same, other, or failure."""
    message: str
    """The message, or what went wrong."""


class TooLongError(BaseException):
    """A case has used up its processor time."""


def run_cases(cases: Sequence[str], use: Callable[[str], str], unchanged: str) -> list[Outcome]:
    """Run cases and say how each ended.

    Args:
        cases: their names, from which they follow.
        use: does what a user would do, and returns a digest of what came of it.
        unchanged: the digest of the files as they were.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < len(cases):
        outcomes += _run_in_child(cases[len(outcomes) :], use, unchanged)
    return outcomes


def _run_in_child(cases: Sequence[str], use: Callable[[str], str], unchanged: str) -> list[Outcome]:
    """Run cases until the end, or the death of the process."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as answers:
            _child(cases, use, unchanged, answers)
        os._exit(0)
    os.close(writing)
    outcomes = []
    with os.fdopen(reading, "rb", buffering=0) as answers:
        buffer = b""
        while True:
            ready, _, _ = select.select([answers], [], [], PATIENCE_SECONDS)
            chunk = answers.read(1 << 16) if ready else b""
            if not chunk:
                break
            buffer += chunk
            *lines, buffer = buffer.split(b"\n")
            outcomes += [Outcome(**json.loads(line)) for line in lines]
    if not ready:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if len(outcomes) < len(cases):
        how = "hung" if not ready else f"died, wait status {status}"
        outcomes.append(Outcome(cases[len(outcomes)], "failure", f"the process {how}"))
    return outcomes


def _child(
    cases: Sequence[str], use: Callable[[str], str], unchanged: str, answers: IO[str]
) -> None:
    faulthandler.disable()
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = held + MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, _too_long)
    for case in cases:
        signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
        outcome = _run(case, use, unchanged)
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(json.dumps(vars(outcome)) + "\n")
        answers.flush()


def _too_long(number: int, frame: object) -> None:
    raise TooLongError


def _run(case: str, use: Callable[[str], str], unchanged: str) -> Outcome:
    try:
        digest = use(case)
    except TinylmError as error:
        message = str(error)
        clear = "\n" not in message and 0 < len(message) <= LONGEST_MESSAGE
        return Outcome(case, "refused" if clear else "failure", message[:2000])
    except BaseException:  # noqa: BLE001 (whatever else it is, it is a failure)
        return Outcome(case, "failure", traceback.format_exc()[-3000:])
    return Outcome(case, "same" if digest == unchanged else "other", "")
