"""Batches for a model: windows over the joined stories, rows of pairs, and rows of one story each.

A window of T inputs is T + 1 neighbouring ids: the labels are the inputs shifted by one, once.
Neighbouring windows share only that one id, so every token but the first is a label exactly once.
Pairs are read one a row: a source that is given, and a target of which every token is a label.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.data.orders import Order, ShuffledOrder, StreamOrder
from tinylm.data.token_files import TokenFile
from tinylm.data.views import IGNORED, VIEWS
from tinylm.errors import DataError
from tinylm.registry import MODELS
from tinylm.tokenizers.base import PAD_ID

__all__ = [
    "IGNORED",
    "Batch",
    "Order",
    "PairRows",
    "ShuffledOrder",
    "StreamOrder",
    "TokenWindows",
    "Windows",
    "windows_of",
]

_READ_AT_ONCE = 1024


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


class Windows(ABC):
    """What a model is trained on of a token file, and measured on, one after the other."""

    noun: ClassVar[str]
    """What one of them is called: ``window``."""
    tokens: TokenFile
    view: str
    """What is seen and predicted of one, a name in ``VIEWS``."""
    context_length: int
    """Inputs of one, at most."""
    longest: int
    """Inputs of the longest."""
    texts: Sequence[int] | npt.NDArray[np.int64]
    """Indices of the stories of the file that they are made of."""
    targets_each: float
    """Tokens that one predicts: all of a full window, or the mean of rows."""
    num_text_bytes: int
    """Bytes of the text that their labels stand for, where each counts."""

    @property
    def judged(self) -> Windows:
        """The same with the labels that losses are compared on, if others are learned too."""
        return self

    @abstractmethod
    def __len__(self) -> int:
        """Return their number."""

    @abstractmethod
    def num_targets(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> int:
        """Return the tokens that those with these indices predict."""

    @abstractmethod
    def batch(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> Batch:
        """Return those with these indices as one batch."""

    def seen(self, batch: Batch, indices: Sequence[int] | npt.NDArray[np.int64]) -> Batch:
        """Return those with these indices as the view has them."""
        return VIEWS[self.view](batch, [int(i) for i in indices])

    def read_targets(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> int:
        """Return the tokens that those with these indices predict, by reading them."""
        parts = np.array_split(np.asarray(indices), len(indices) // _READ_AT_ONCE + 1)
        return sum(self.batch(part).num_targets for part in parts if len(part))

    def in_order(
        self,
        batch_size: int,
        indices: Sequence[int] | npt.NDArray[np.int64] | None = None,
    ) -> Iterator[Batch]:
        """Yield all windows, or those named, in order; the last batch may be smaller."""
        chosen = range(len(self)) if indices is None else indices
        for start in range(0, len(chosen), batch_size):
            yield self.batch(np.array(chosen[start : start + batch_size], dtype=np.int64))

    def fixed_subset(self, size: int | None) -> list[int] | None:
        """Return ``size`` windows spread evenly over the file, the same every time."""
        if size is None or size >= len(self):
            return None
        return [int(i) for i in np.linspace(0, len(self) - 1, size).round()]


class TokenWindows(Windows):
    """Windows of ``context_length`` inputs over the joined stories of a token file.

    The last window may be shorter; it is filled with padding that no loss counts.
    """

    noun = "window"

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
        self.context_length = self.longest = context_length
        self.targets_each = float(context_length)
        self.texts = range(len(tokens))
        self.num_text_bytes = tokens.header.num_text_bytes
        self.view = view

    def __len__(self) -> int:
        """Return the number of windows."""
        return (self.tokens.header.num_tokens + self.context_length - 2) // self.context_length

    def num_targets(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> int:
        """Return the tokens that the windows with these indices predict."""
        if self.view != "whole":
            return self.read_targets(indices)
        last = len(self) - 1  # the only one that may be short
        if isinstance(indices, np.ndarray):
            times = int(np.count_nonzero(indices == last))
        else:
            times = indices.count(last)  # at once of a range, whatever its length
        missing = len(self) * self.context_length - (self.tokens.header.num_tokens - 1)
        return len(indices) * self.context_length - times * missing

    def batch(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> Batch:
        """Return the windows with these indices as one batch."""
        length = self.context_length
        ids = np.full((len(indices), length + 1), PAD_ID, dtype=np.int64)
        sizes = np.empty(len(indices), dtype=np.int64)
        for row, index in enumerate(map(int, indices)):
            window = self.tokens.ids[index * length : index * length + length + 1]
            ids[row, : len(window)] = window
            sizes[row] = len(window)
        inputs, labels = torch.from_numpy(ids[:, :-1].copy()), torch.from_numpy(ids[:, 1:].copy())
        batch = Batch(inputs, labels)
        if not (sizes == length + 1).all():
            places = torch.arange(length)
            real = places < torch.from_numpy(sizes)[:, None] - 1  # inputs that have a label
            batch = Batch(inputs, labels.masked_fill(~real, IGNORED), real)
        return self.seen(batch, indices)


class PairRows(Windows):
    """The pairs of a token file that fit into a context, padded on the right in a batch.

    A row is ``<sos>`` source target ``<eos>`` and stands by itself. One that is longer than the
    context is left out as a whole, never cut.
    """

    noun = "pair"

    def __init__(
        self,
        tokens: TokenFile,
        context_length: int,
        view: str = "whole",
        learn_source: bool = False,
    ) -> None:
        """Find the rows that fit.

        Args:
            tokens: the file, of pairs.
            context_length: inputs of a row, at most.
            view: what is seen and predicted of them, a name in ``VIEWS``.
            learn_source: whether the tokens of the source, too, are predicted.

        Raises:
            DataError: if none fits.
        """
        assert tokens.pairs is not None
        self.tokens = tokens
        self.context_length = context_length
        self.learn_source = learn_source
        self.view = view
        lengths = tokens.lengths()
        self.texts: npt.NDArray[np.int64] = np.flatnonzero(lengths - 1 <= context_length)
        if not len(self.texts):
            raise DataError(
                f"{tokens.path}: no pair of the {tokens.header.split} split fits into a context of "
                f"{context_length} tokens, the shortest has {lengths.min() - 1}: raise "
                "model.context_length, or give shorter texts"
            )
        self.longest = int(lengths[self.texts].max()) - 1
        self.num_text_bytes = int(tokens.pairs[self.texts, 1].sum())
        first = 1 if learn_source else tokens.pairs[:, 0]
        self._targets = lengths - first
        self.targets_each = float(self._targets[self.texts].mean())

    @property
    def left_out(self) -> int:
        """Pairs that are longer than the context."""
        return len(self.tokens) - len(self.texts)

    @property
    def judged(self) -> PairRows:
        """The same pairs, of which the targets count alone."""
        if not self.learn_source:
            return self
        return PairRows(self.tokens, self.context_length, self.view)

    def __len__(self) -> int:
        """Return the number of pairs that fit."""
        return len(self.texts)

    def num_targets(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> int:
        """Return the tokens that the pairs with these indices predict."""
        if self.view not in ("whole", "rest"):  # which leave a row as it is
            return self.read_targets(indices)
        return int(self._targets[self.texts[np.asarray(indices, dtype=np.int64)]].sum())

    def batch(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> Batch:
        """Return the pairs with these indices as one batch, (pairs, longest of them)."""
        assert self.tokens.pairs is not None
        chosen = self.texts[np.asarray(indices, dtype=np.int64)]
        rows = [self.tokens.story(int(i)).tolist() for i in chosen]
        given = self.tokens.pairs[chosen, 0].tolist()
        batch = story_rows(rows, given)
        if self.learn_source:
            batch = replace(batch, labels=story_rows(rows).labels)
        return self.seen(batch, indices)


def windows_of(
    tokens: TokenFile,
    model: ModelConfig,
    length: int | None = None,
    learn_source: bool = False,
    view: str | None = None,
) -> Windows:
    """Return what a kind of model is trained on of a file: windows, or the rows of its pairs.

    Args:
        tokens: the file.
        model: of which kind, and of which context.
        length: inputs of a window; None: the model's context.
        learn_source: whether the sources of pairs are learned, too.
        view: what is seen and predicted, a name in ``VIEWS``; None: what the kind is trained on.

    Raises:
        DataError: if the file has fewer than two tokens, or no pair that fits.
    """
    view = view or str(MODELS.load(model.kind).view)
    length = length or model.context_length
    if tokens.header.pairs:
        return PairRows(tokens, length, view, learn_source)
    return TokenWindows(tokens, length, view)


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
    ids, real = pad_rows(stories, width=max(width, 1))
    given = torch.as_tensor(num_given, dtype=torch.int64).expand(len(stories))
    predicted = real[:, 1:] & (torch.arange(1, ids.shape[1]) >= given[:, None])
    labels = ids[:, 1:].masked_fill(~predicted, IGNORED)
    return Batch(ids[:, :-1], labels, real[:, :-1], given)
