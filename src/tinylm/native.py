"""Settings of the libraries that torch carries, made before they are loaded.

GNU OpenMP: between two parallel parts of a computation its threads check for work in a loop
("spin") for some milliseconds before they sleep. Alone on a machine that costs nothing; beside
another busy program the waiting threads take the processors from the working ones, and a training
step takes three times as long where sharing two cores would make it one and a half to two. With a
limit of a thousand checks, some 10 microseconds, they lose nothing alone.

oneDNN and what torch calls it by (ideep): both keep the code that was generated for matrix products
of certain sizes, up to 1 MB each, of the last 1,024. A program whose texts have many lengths thus
comes to hold 1 GB of it. Code is generated again in about a millisecond, so fewer are kept.

The libraries read these settings once, when they are loaded with torch, so they are made when
``tinylm`` is imported. They are environment variables, so that processes started from here have
them too.
"""

from __future__ import annotations

import os
import sys

SLEEPING = {"GOMP_SPINCOUNT": "1000"}
"""How threads wait."""
SET_BY_USERS = (*SLEEPING, "OMP_WAIT_POLICY")
"""What says how threads wait; a value that is there stays."""
CACHED_PRODUCTS = {"LRU_CACHE_CAPACITY": "256", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256"}
"""Sizes of products whose code is kept, by ideep and by oneDNN."""


def sleep_while_waiting() -> bool:
    """Set the limit of ``SLEEPING``, unless the environment says already how threads wait.

    Returns:
        Whether the threads of this process follow: not if torch was loaded before with another
        setting. ``docs/speed.md`` says what a program that imports torch first can do.
    """
    if any(name in os.environ for name in SET_BY_USERS):
        return True
    os.environ.update(SLEEPING)
    return "torch" not in sys.modules


def cache_fewer_products() -> None:
    """Set ``CACHED_PRODUCTS``, each unless the environment says already how many."""
    for name, value in CACHED_PRODUCTS.items():
        os.environ.setdefault(name, value)
