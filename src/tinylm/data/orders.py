"""In which order windows are trained on: endless batches of their indices, epoch by epoch.

A position in an order is two numbers and the name of what draws it, and going on from any of 10^9
windows costs what going on from the first does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tinylm.data.permutations import ComputedPermutation, Permutation, StoredPermutation
from tinylm.errors import DataError, shown

_AHEAD = 1024
"""Indices that are computed at once: most of the time a call takes does not hang on how many."""


class Order(Protocol):
    """Endless batches of window indices, epoch by epoch."""

    epoch: int

    @property
    def next_window(self) -> int:
        """Windows of the epoch that were returned; at their number or beyond, it is over."""
        ...

    def next(self) -> npt.NDArray[np.int64]:
        """Return the next batch of indices; the last of an epoch may be smaller."""
        ...

    @property
    def epoch_ended(self) -> bool:
        """Whether the batch returned last was the last of its epoch."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the position: the numbers ``epoch`` and ``next_window``, and names."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from a position that ``state`` returned.

        Raises:
            DataError: if it is a position in an order that is not known.
        """
        ...


class WholeOrder(Order, Protocol):
    """An order whose batches may be shared out to several processes.

    k processes with batches of b then read what one process with batches of k b does, every window
    once an epoch; a position is that of all, so that another number of processes can go on from it.
    """

    def share(self, size: int, rank: int, processes: int) -> slice:
        """Return which rows of a batch of ``size`` one of several processes takes.

        Together they take every row once, in the order of their ranks; one may get none.
        """
        ...


class StreamOrder:
    """Windows in order: the file is cut into as many streams as a batch has rows.

    Row i of a batch is the window of stream i after that of the batch before it. All streams are of
    one length but the last ones, which may end earlier: their rows are then left out. Nothing is
    drawn, and every epoch is the same.
    """

    def __init__(self, num_windows: int, batch_size: int) -> None:
        self.num_windows = num_windows
        self.batch_size = batch_size
        self.length = math.ceil(num_windows / batch_size)
        """Windows of a stream."""
        self.epoch = 0
        self._done = 0  # windows of the first stream

    @property
    def next_window(self) -> int:
        """Windows of the epoch that were returned, of the streams that are shorter too."""
        return self._done * self.batch_size

    def next(self) -> npt.NDArray[np.int64]:
        """Return the next window of each stream."""
        if self._done >= self.length:
            self.epoch += 1
            self._done = 0
        indices = np.arange(self._done, self.num_windows, self.length)
        self._done += 1
        return indices

    @property
    def epoch_ended(self) -> bool:
        """Whether the windows returned last were the last of the streams."""
        return self._done >= self.length

    def share(self, size: int, rank: int, processes: int) -> slice:
        """Return the rows of a process: always those of the same streams, while they last."""
        return _even(self.batch_size, rank, processes, size)

    def state(self) -> dict[str, Any]:
        """Return the position as plain numbers."""
        return {"epoch": self.epoch, "next_window": self.next_window}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from a position that ``state`` returned."""
        self.epoch = state["epoch"]
        self._done = math.ceil(state["next_window"] / self.batch_size)


class ShuffledOrder:
    """Endless batches of window indices: a new seeded permutation each epoch.

    Permutation e depends on (seed, e) alone and is computed where it is read
    (``data.permutations``), so a position is two numbers, whatever the number of windows.
    """

    def __init__(self, num_windows: int, batch_size: int, seed: int) -> None:
        self.num_windows = num_windows
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.next_window = 0
        self._kind: type[ComputedPermutation | StoredPermutation] = ComputedPermutation
        self._permutation = self._permute()

    def _permute(self) -> Permutation:
        self._ahead, self._ahead_from = np.empty(0, np.int64), 0
        return self._kind(self.num_windows, self.seed, self.epoch)

    def next(self) -> npt.NDArray[np.int64]:
        """Return the next batch of indices; the last of an epoch may be smaller."""
        if self.next_window >= self.num_windows:
            self.epoch += 1
            self.next_window = 0
            self._permutation = self._permute()
        first = self.next_window
        self.next_window += self.batch_size
        last = min(self.next_window, self.num_windows)
        if not self._ahead_from <= first <= last <= self._ahead_from + len(self._ahead):
            until = min(max(last, first + _AHEAD), self.num_windows)
            self._ahead, self._ahead_from = self._permutation.at(first, until), first
        return self._ahead[first - self._ahead_from : last - self._ahead_from].copy()

    @property
    def epoch_ended(self) -> bool:
        """Whether the batch returned last was the last of its epoch."""
        return self.next_window >= self.num_windows

    def share(self, size: int, rank: int, processes: int) -> slice:
        """Return the rows of a process, as many as of any other or one fewer."""
        return _even(size, rank, processes, size)

    def state(self) -> dict[str, Any]:
        """Return the position: two numbers, and the name of the permutations."""
        position = {"epoch": self.epoch, "next_window": self.next_window}
        name = self._kind.name
        return position if name is None else {**position, "permutation": name}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from a position that ``state`` returned.

        One that names no permutation was saved while they were lists that NumPy had drawn: it goes
        on in these, to the end of its training, at 8 bytes of memory a window.

        Raises:
            DataError: if it names permutations that are not known here.
        """
        kinds = {kind.name: kind for kind in (ComputedPermutation, StoredPermutation)}
        name = state.get("permutation")
        if name not in kinds:
            raise DataError(
                f"the order of windows was drawn by permutations {shown(name)}, and this version "
                f"of tinylm has {ComputedPermutation.name}: go on with the version that began the "
                "training, or train anew"
            )
        self._kind = kinds[name]
        self.epoch = state["epoch"]
        self.next_window = state["next_window"]
        self._permutation = self._permute()


def _even(rows: int, rank: int, processes: int, most: int) -> slice:
    """Return a rank's part of so many rows, the first ranks taking one more, up to row ``most``."""
    each, more = divmod(rows, processes)
    first = rank * each + min(rank, more)
    last = first + each + (rank < more)
    return slice(min(first, most), min(last, most))
