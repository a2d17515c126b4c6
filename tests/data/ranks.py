"""What one of several processes takes of an order, as the loop takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tinylm.data.orders import WholeOrder


class RankOrder:
    """What one of several processes takes of an order whose batches are those of all of them.

    The batches of the processes, one after the other by rank, are the batch of the whole order: k
    processes with batches of b read what one process with batches of k·b does. Every window comes
    once an epoch. Of a batch that does not divide, the last of an epoch, some take one window more,
    and where it has fewer windows than there are processes the last ones get an empty batch, so
    that all of them take equally many steps.

    Position and epoch are those of the whole order, so a position can be gone on from with another
    number of processes.
    """

    def __init__(self, whole: WholeOrder, rank: int, processes: int) -> None:
        """Take a share.

        Args:
            whole: the order of the batches of all processes; each has one of its own.
            rank: of this process, from 0.
            processes: how many there are.
        """
        assert 0 <= rank < processes
        self.whole = whole
        self.rank = rank
        self.processes = processes

    @property
    def epoch(self) -> int:
        """Epochs that are over."""
        return self.whole.epoch

    @property
    def next_window(self) -> int:
        """Windows of the epoch that all processes together were given."""
        return self.whole.next_window

    def next(self) -> npt.NDArray[np.int64]:
        """Return the next indices of this process, which may be none."""
        indices = self.whole.next()
        return indices[self.whole.share(len(indices), self.rank, self.processes)]

    @property
    def epoch_ended(self) -> bool:
        """Whether the batch returned last was the last of its epoch."""
        return self.whole.epoch_ended

    def state(self) -> dict[str, Any]:
        """Return the position of the whole order, the same for every process."""
        return self.whole.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from a position that any process returned.

        Raises:
            DataError: as the whole order does.
        """
        self.whole.restore(state)
