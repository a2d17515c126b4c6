"""Batches for a model: windows over the joined stories, and padded rows of one story each.

A window of T inputs is T + 1 neighbouring ids: the labels are the inputs shifted by one, once.
Neighbouring windows share only that one id, so every token but the first is a label exactly once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.data.token_files import TokenFile
from tinylm.data.views import IGNORED, VIEWS
from tinylm.errors import DataError
from tinylm.registry import MODELS
from tinylm.tokenizers.base import PAD_ID

__all__ = [
    "IGNORED",
    "Batch",
    "Order",
    "ShuffledOrder",
    "StreamOrder",
    "TokenWindows",
    "windows_of",
]


@dataclass(frozen=True)
class Batch:
    """Inputs and labels of one forward pass."""

    ids: Tensor
    """Inputs, (batch, seq), int64."""
    labels: Tensor
    """The token that follows each input, (batch, seq), int64; IGNORED where none is predicted."""
    real: Tensor | None = None
    """(batch, seq), False where an input is padding; None: all inputs are real."""
    given: Tensor | None = None
    """(batch,), how many first real inputs of a row are its source; None: the first alone. It
    counts for a model that reads a source before it writes; others see all before a label."""
    hidden: Tensor | None = None
    """(batch, seq), True where a model must not see an input; None: nowhere."""
    follows: bool = False
    """Whether row i goes on where row i of the batch before it ended (``StreamOrder``)."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        on_device: dict[str, Any] = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **on_device)

    @property
    def size(self) -> tuple[int, int] | None:
        """Rows and tokens of each; None for features of texts that were read before."""
        if self.ids.is_floating_point():
            return None
        rows, seq = self.ids.shape
        return rows, seq

    @property
    def num_targets(self) -> int:
        """Number of labels that are predicted."""
        return int((self.labels != IGNORED).sum())


class TokenWindows:
    """Windows of ``context_length`` inputs over the joined stories of a token file.

    The last window may be shorter; it is filled with padding that no loss counts.
    """

    def __init__(self, tokens: TokenFile, context_length: int, view: str = "whole") -> None:
        """Cut the file into windows.

        Args:
            tokens: the file.
            context_length: inputs of a window.
            view: what is seen and predicted of them, a name in ``VIEWS``; of a model's kind it is
                ``GenerativeModel.view``.

        Raises:
            DataError: if the file has fewer than two tokens.
        """
        if tokens.header.num_tokens < 2:
            raise DataError(f"{tokens.path} has fewer than two tokens: nothing to predict")
        self.tokens = tokens
        self.context_length = context_length
        self._view = VIEWS[view]
        self._sees_all = view == "whole"

    def __len__(self) -> int:
        """Return the number of windows."""
        return math.ceil((self.tokens.header.num_tokens - 1) / self.context_length)

    def num_targets(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> int:
        """Return the tokens that the windows with these indices predict."""
        if not self._sees_all:
            return sum(self.batch([int(i)]).num_targets for i in indices)
        left = self.tokens.header.num_tokens - 1
        return sum(min(self.context_length, left - int(i) * self.context_length) for i in indices)

    def batch(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> Batch:
        """Return the windows with these indices as one batch."""
        length = self.context_length
        ids = np.full((len(indices), length + 1), PAD_ID, dtype=np.int64)
        sizes = np.empty(len(indices), dtype=np.int64)
        for row, index in enumerate(indices):
            window = self.tokens.ids[index * length : index * length + length + 1]
            ids[row, : len(window)] = window
            sizes[row] = len(window)
        inputs, labels = torch.from_numpy(ids[:, :-1].copy()), torch.from_numpy(ids[:, 1:].copy())
        if (sizes == length + 1).all():
            return self._view(Batch(inputs, labels), [int(i) for i in indices])
        places = torch.arange(length)
        real = places < torch.from_numpy(sizes)[:, None] - 1  # inputs that have a label
        batch = Batch(inputs, labels.masked_fill(~real, IGNORED), real)
        return self._view(batch, [int(i) for i in indices])

    def in_order(self, batch_size: int, indices: Sequence[int] | None = None) -> Iterator[Batch]:
        """Yield all windows, or those named, in order; the last batch may be smaller."""
        chosen = np.arange(len(self)) if indices is None else np.asarray(indices)
        for start in range(0, len(chosen), batch_size):
            yield self.batch(chosen[start : start + batch_size])

    def fixed_subset(self, size: int | None) -> list[int] | None:
        """Return ``size`` windows spread evenly over the file, the same every time."""
        if size is None or size >= len(self):
            return None
        return [int(i) for i in np.linspace(0, len(self) - 1, size).round()]


def windows_of(
    tokens: TokenFile, model: ModelConfig, length: int | None = None, view: str = "auto"
) -> TokenWindows:
    """Return windows over a file as a kind of model sees them.

    Args:
        tokens: the file.
        model: of which kind, and of which context.
        length: inputs of a window; None: the model's context.
        view: what is seen and predicted of them, a name in ``VIEWS``; auto: as the kind sees them.

    Raises:
        DataError: if the file has fewer than two tokens.
    """
    own: str = MODELS.load(model.kind).view
    return TokenWindows(tokens, length or model.context_length, own if view == "auto" else view)


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


def pad_rows(
    rows: Sequence[Sequence[int]], left: bool = False, width: int = 0
) -> tuple[Tensor, Tensor]:
    """Join rows of different lengths into one tensor.

    Args:
        rows: token ids of each row.
        left: put the padding before the tokens (for generation) instead of behind them.
        width: pad all rows to this length, if none is longer.

    Returns:
        ids, (batch, longest), int64, and real, (batch, longest), bool, False where it is padding.
    """
    longest = max(width, *(len(row) for row in rows), 0)
    ids = torch.full((len(rows), longest), PAD_ID)
    real = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[i, place] = torch.as_tensor(row, dtype=torch.long)
        real[i, place] = True
    return ids, real


def story_rows(
    stories: Sequence[Sequence[int]], num_given: int | Sequence[int] = 1, width: int = 0
) -> Batch:
    """Return padded rows, one story each, whose labels start after the given tokens.

    Args:
        stories: ids of each story, framing tokens included.
        num_given: how many first tokens of a row are given and not predicted.
        width: pad rows to this many ids, if none is longer.
    """
    ids, real = pad_rows(stories, width=width)
    given = torch.as_tensor(num_given).expand(len(stories))
    predicted = real[:, 1:] & (torch.arange(1, ids.shape[1]) >= given[:, None])
    labels = ids[:, 1:].masked_fill(~predicted, IGNORED)
    return Batch(ids[:, :-1], labels, real[:, :-1], given)
