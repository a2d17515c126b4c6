"""A table from pairs of ids to numbers, compiled: open addressing, keys of 64 bits."""

from __future__ import annotations

import numpy as np

from tinylm.tokenizers.loops import compiled

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
NO_KEY = -1


@compiled
def key_of(left, right):
    """Return the key of a pair; keys are ordered as pairs are."""
    return (np.int64(left) << np.int64(32)) | np.int64(right)


@compiled
def place_of(keys, key):
    """Return the place of a key, or the free one for it.

    Args:
        keys: (a power of 2,) int64, ``NO_KEY`` where there is none.
        key: what is looked for.
    """
    mask = np.uint64(len(keys) - 1)
    mixed = np.uint64(key) * _FACTOR
    place = (mixed ^ (mixed >> _HALF)) & mask
    while keys[place] != NO_KEY and keys[place] != key:
        place = (place + np.uint64(1)) & mask
    return place


@compiled
def grown(array, size):
    """Return a longer array that begins with the numbers of this one."""
    longer = np.empty(size, array.dtype)
    longer[: len(array)] = array
    return longer
