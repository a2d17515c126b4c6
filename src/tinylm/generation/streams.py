"""The random numbers of a sampled text: a stream of its own, whatever else is in the batch.

A stream is named by the prompt and by how many equal prompts come before it. A text is thus the
same alone and in any batch, and several texts of one prompt differ.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

_BYTES = 8


def equal_before(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Return for each prompt how many equal ones come before it."""
    before: Counter[tuple[int, ...]] = Counter()
    numbers = []
    for prompt in map(tuple, prompts):
        numbers.append(before[prompt])
        before[prompt] += 1
    return numbers


def streams_of(prompts: Sequence[Sequence[int]], numbers: Sequence[int]) -> list[int]:
    """Return the names of the prompts' streams, in [0, 2**63), the same on every machine."""
    return [
        int.from_bytes(
            hashlib.blake2b(
                np.asarray([number, *prompt], "<i8").tobytes(), digest_size=_BYTES
            ).digest(),
            "little",
        )
        % 2**63
        for prompt, number in zip(prompts, numbers, strict=True)
    ]
