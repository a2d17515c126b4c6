"""A cache whose tokens are not moved, for the loops of attention that read it in place.

When sequences change places, as beams do, no token is moved: a table records in which sequence's
place each token stands. Later tokens are written to their own sequence's place, which no other
sequence writes to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tinylm.fast import loops
from tinylm.fast.encodings import EncodingTables
from tinylm.model.cache import KVCache

if TYPE_CHECKING:
    from tinylm.fast.decoding import Beginning
    from tinylm.fast.loops.decoding import Layers
    from tinylm.fast.loops.matrices import Linear
    from tinylm.fast.loops.single_token import Encoding, Layout


class StepCache(KVCache):
    """A ``KVCache`` that attention's loops read, and that notes where tokens stand."""

    def __init__(
        self,
        *arguments: Any,
        tables: EncodingTables | None,
        layers: Layers | None = None,
        beginning: Beginning | None = None,
        output: Linear | None = None,
        **sizes: Any,
    ) -> None:
        """Allocate the buffers.

        Args:
            arguments: as of ``KVCache``.
            tables: what the loops know of the positional encoding; None: it is none for them.
            layers: all layers as one loop reads them; None: they are run in turn.
            beginning: what tokens are before them; None: the model's own parts tell it.
            output: the map to logits; likewise.
            sizes: as of ``KVCache``.
        """
        super().__init__(*arguments, **sizes)
        self.tables = tables
        self.layers = layers
        self.beginning = beginning
        self.output = output
        self._slots = torch.arange(self._real.shape[1]).repeat(self.capacity, 1)
        self._redirected = False

    @property
    def positions(self) -> Tensor:
        """Position of each token held, (batch, length)."""
        return self._where_they_stand(self._positions)

    @property
    def real(self) -> Tensor:
        """Which tokens held are not padding, (batch, length), bool."""
        return self._where_they_stand(self._real)

    def _where_they_stand(self, buffer: Tensor) -> Tensor:
        """Return what is held of each token, (batch, length)."""
        if self._redirected:
            return buffer[: self.length].gather(1, self._slots[: self.length, : self.batch_size]).T
        return buffer[: self.length, : self.batch_size].T

    def layout(self) -> Layout:
        """Return what the loops read, and where it stands."""
        padded = self._real if self.padded else None
        places = None if self.tables is None or self.tables.bias is None else self._positions
        return loops.single_token.Layout(
            self._keys, self._values, self._slots, padded, places, self.length
        )

    def can_attend(self, x: Tensor) -> bool:
        """Whether the loops can run attention for these tokens, (batch, seq, hidden).

        For one new token of each text, where no gradient is wanted.
        """
        return x.shape[1] == 1 and self.can_be_read(x)

    def can_be_read(self, x: Tensor) -> bool:
        """Whether the loops know the positional encoding and suit such tokens, without gradient."""
        return self.tables is not None and not torch.is_grad_enabled() and loops.suit(x, self._keys)

    @property
    def can_look_ahead(self) -> bool:
        """Whether the loops know how a token sees those after it: a bias is known of those before.

        Of the positional encoding they know what ``can_be_read`` says.
        """
        return self.tables is not None and self.tables.bias is None

    def attend(self, projected: Tensor, layer: int, positions: Tensor) -> Tensor:
        """Store the newest keys and values of a layer, and mix those that each query sees.

        Args:
            projected: (texts, 3 * heads * head_dim), queries, keys and values of one token each.
            layer: its index.
            positions: of these tokens, (texts or 1, 1).

        Returns:
            (texts, heads * head_dim), in the format of ``projected``.
        """
        encoding = self.encoding_at(positions[:, 0].expand(self.batch_size).tolist())
        return loops.single_token.attend(projected, layer, self.layout(), encoding)

    def encoding_at(self, places: Sequence[int]) -> Encoding:
        """Return how the positional encoding acts on a new token of each text, at these places."""
        assert self.tables is not None
        return self.tables.at(places)

    def extend(self, positions: Tensor, real: Tensor | None) -> None:
        """Make room for new tokens; see ``KVCache.extend``."""
        start = self.length
        super().extend(positions, real)
        if self._redirected:
            self._slots[start : self.length] = torch.arange(self._real.shape[1])

    def extend_by_one(self, places: Sequence[int]) -> None:
        """Make room for a new token of each text, none of them padding, at these positions."""
        if self.length == self.capacity or len(places) != self.batch_size:
            self.extend(torch.tensor(places)[:, None], None)
            return
        self._positions.numpy()[self.length, : self.batch_size] = places
        if self._redirected:
            self._slots.numpy()[self.length] = range(self._slots.shape[1])
        self.length += 1

    def store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write one layer's keys and values and return all held so far; see ``KVCache.store``.

        Returns:
            Keys and values in float32, in which products of one query are quicker.
        """
        self._settle()
        return super().store(layer, keys.float(), values.float())

    def reorder(self, rows: Tensor, shared: int = 0) -> None:
        """Make sequence i what sequence ``rows[i]`` was; see ``KVCache.reorder``."""
        wanted: Sequence[int] = rows.tolist()
        known = range(self.batch_size)
        if not 0 < len(wanted) <= self._real.shape[1] or not all(row in known for row in wanted):
            self._settle()
            super().reorder(rows, shared)
            return
        held = self._slots.numpy()[: self.length]
        held[:, : len(wanted)] = held[:, wanted]
        self.batch_size = len(rows)
        self._redirected = True

    def _settle(self) -> None:
        """Move the tokens to where their sequences' places are."""
        if not self._redirected:
            return
        slots = self._slots[: self.length, : self.batch_size]
        token = torch.arange(self.length)[:, None]
        for buffer in self._buffers():
            buffer[: self.length, : self.batch_size] = buffer[token, slots]
        self._slots = torch.arange(self._real.shape[1]).repeat(self.capacity, 1)
        self._redirected = False

    def _grow(self, rows: Tensor) -> None:
        super()._grow(rows)
        self._slots = torch.arange(len(rows)).repeat(self.capacity, 1)
