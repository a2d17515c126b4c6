"""Threads that wait for work let go of the processor.

Between two parallel parts of a computation the threads of GNU OpenMP, which torch carries, look for
work again and again ("spin") for some milliseconds before they sleep. Alone on a machine that costs
nothing; beside another busy program the waiting threads take the processors from the working ones,
and a training step takes three times as long where sharing two cores would make it one and a half
to two. Told to look a thousand times, some 10 microseconds, they lose nothing alone.

The library reads the setting once, when it is loaded with torch, so it is made when ``tinylm`` is
imported. It is an environment variable, so that processes started from here have it too.
"""

from __future__ import annotations

import os
import sys

SLEEPING = {"GOMP_SPINCOUNT": "1000"}
"""The setting."""
SET_BY_USERS = (*SLEEPING, "OMP_WAIT_POLICY")
"""What says how threads wait; a value that is there stays."""


def sleep_while_waiting() -> bool:
    """Ask for it, unless the environment says already how threads wait.

    Returns:
        Whether the threads of this process follow: not if torch was loaded before with another
        setting. ``docs/speed.md`` says what a program that imports torch first can do.
    """
    if any(name in os.environ for name in SET_BY_USERS):
        return True
    os.environ.update(SLEEPING)
    return "torch" not in sys.modules
