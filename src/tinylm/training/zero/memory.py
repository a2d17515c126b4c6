"""How many bytes of parameters, gradients and optimizer states a rank holds, from its storages.

Nothing is computed from sizes of a model: every tensor is asked for the storage in which it lies,
and every storage counts once, as it is at that moment. A parameter that is a view of a bucket and
the bucket itself are one storage; a storage that was freed has no bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

Parts = Mapping[str, Iterable[Tensor]]
"""What a rank holds, by what it is."""


def bytes_held(parts: Parts) -> dict[str, int]:
    """Return the bytes of the storages of each part.

    Args:
        parts: a storage that several share counts in the first of them.
    """
    seen: set[int] = set()
    held: dict[str, int] = {}
    for name, tensors in parts.items():
        held[name] = 0
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata not in seen:
                seen.add(storage._cdata)
                held[name] += storage.nbytes()
    return held


class Meter:
    """What a rank held in its last step: after the backward passes, and at the most."""

    def __init__(self) -> None:
        self.after_backward: dict[str, int] = {}
        """When all gradients are there and before the optimizer moves: what the formulas say."""
        self.most: dict[str, int] = {}
        """By part, at the time when all parts together were most."""

    def begin(self) -> None:
        """Forget the step before."""
        self.after_backward, self.most = {}, {}

    def look(self, parts: Parts) -> dict[str, int]:
        """Measure, and keep it if it is the most."""
        held = bytes_held(parts)
        if sum(held.values()) > sum(self.most.values()):
            self.most = held
        return held
