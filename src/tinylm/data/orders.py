"""In which order windows are trained on: endless batches of their indices, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt


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

    def state(self) -> dict[str, int]:
        """Return the position as plain numbers, ``epoch`` and ``next_window``."""
        ...

    def restore(self, state: Mapping[str, int]) -> None:
        """Resume from a position that ``state`` returned."""
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

    def state(self) -> dict[str, int]:
        """Return the position as plain numbers."""
        return {"epoch": self.epoch, "next_window": self.next_window}

    def restore(self, state: Mapping[str, int]) -> None:
        """Resume from a position that ``state`` returned."""
        self.epoch = state["epoch"]
        self._done = math.ceil(state["next_window"] / self.batch_size)


class ShuffledOrder:
    """Endless batches of window indices: a new seeded permutation each epoch.

    Permutation e depends on (seed, e) alone, so a position is two numbers, and resuming from it
    costs one permutation, not a replay.
    """

    def __init__(self, num_windows: int, batch_size: int, seed: int) -> None:
        self.num_windows = num_windows
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.next_window = 0
        self._permutation = self._permute()

    def _permute(self) -> npt.NDArray[np.int64]:
        return np.random.default_rng((self.seed, self.epoch)).permutation(self.num_windows)

    def next(self) -> npt.NDArray[np.int64]:
        """Return the next batch of indices; the last of an epoch may be smaller."""
        if self.next_window >= self.num_windows:
            self.epoch += 1
            self.next_window = 0
            self._permutation = self._permute()
        start = self.next_window
        self.next_window += self.batch_size
        return self._permutation[start : self.next_window]

    @property
    def epoch_ended(self) -> bool:
        """Whether the batch returned last was the last of its epoch."""
        return self.next_window >= self.num_windows

    def state(self) -> dict[str, int]:
        """Return the position as plain numbers."""
        return {"epoch": self.epoch, "next_window": self.next_window}

    def restore(self, state: Mapping[str, int]) -> None:
        """Resume from a position that ``state`` returned."""
        self.epoch = state["epoch"]
        self.next_window = state["next_window"]
        self._permutation = self._permute()
