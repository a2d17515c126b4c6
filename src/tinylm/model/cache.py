"""Keys and values of the tokens already read, so that a new token costs one position.

Buffers are allocated once for ``capacity`` tokens; nothing is concatenated. The tokens' axis comes
first, so that what is held is one block of memory however little it is, and a step of 100 sequences
reads it in two thirds of the time that one block a sequence takes. Memory is
``num_layers * 2 * batch * num_heads * head_dim * capacity * bytes_per_number``, where batch is the
number of sequences there is room for: it stays when sequences leave.

Cached keys hold absolute positions, so the oldest tokens cannot be dropped and the rest moved up:
a sequence that outgrows the context is read again from its last window (``generation``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.errors import GenerationError


def taken(
    rows: Tensor, count: int, texts: str = "texts", held: str = "a state of {count}"
) -> list[int]:
    """Return which of ``count`` texts are to be taken, for ``reorder``.

    Args:
        rows: (new batch,), int64.
        count: of the texts that there are.
        texts: what they are called.
        held: and what they are in, with ``{count}``.

    Raises:
        GenerationError: if there is no such text.
    """
    wanted: list[int] = rows.tolist()
    if any(not 0 <= row < count for row in wanted):
        raise GenerationError(f"cannot take {texts} {wanted} of {held.format(count=count)}")
    return wanted


class KVCache:
    """One preallocated key and value buffer a layer, for a batch of sequences.

    ``extend`` opens room for the tokens of a forward pass, then each layer calls ``store``.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        capacity: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        max_batch_size: int = 0,
    ) -> None:
        """Allocate the buffers.

        Args:
            config: gives layers, heads, head_dim, and the default capacity, its context_length.
            batch_size: number of sequences.
            capacity: most tokens a sequence, padding included.
            device: where the model is.
            dtype: the model's number format.
            max_batch_size: sequences to make room for, if ``reorder`` will make more of them.
        """
        self.capacity = capacity or config.context_length
        self.batch_size = batch_size
        """Number of sequences."""
        room = max(batch_size, max_batch_size)
        heads = (config.num_heads, config.resolved_head_dim)
        shape = (config.num_layers, self.capacity, room, *heads)
        self._keys = torch.empty(shape, device=device, dtype=dtype)
        self._values = torch.empty(shape, device=device, dtype=dtype)
        self._positions = torch.zeros(self.capacity, room, device=device, dtype=torch.long)
        # True beyond length, so that only padding is ever written.
        self._real = torch.ones(self.capacity, room, device=device, dtype=torch.bool)
        self.length = 0
        """Tokens held, padding included; the same for every sequence of the batch."""
        self.padded = False
        """Whether padding was ever among them."""
        self.prefix_length = 0
        """Virtual tokens among them, which stand before every text (``begin``)."""

    @property
    def positions(self) -> Tensor:
        """Position of each token held, (batch, length)."""
        return self._positions[: self.length, : self.batch_size].T

    @property
    def real(self) -> Tensor:
        """Which tokens held are not padding, (batch, length), bool."""
        return self._real[: self.length, : self.batch_size].T

    @property
    def num_bytes(self) -> int:
        """Bytes of the key and value buffers, room for sequences that left or may come included."""
        return 2 * self._keys.numel() * self._keys.element_size()

    @torch.no_grad()
    def begin(self, prefix: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Begin every sequence, empty yet, with virtual tokens, whose positions end at -1.

        Args:
            prefix: for each layer keys and values, (heads, virtual tokens, head_dim) each.
        """
        length = prefix[0][0].shape[1]
        self.extend(torch.arange(-length, 0, device=self._positions.device)[None], None)
        for layer, both in enumerate(prefix):
            for buffer, given in zip((self._keys, self._values), both, strict=True):
                buffer[layer, :length] = given.transpose(0, 1)[:, None]
        # Room for sequences to come begins with it, too.
        self._positions[:length] = self._positions[:length, :1]
        self.prefix_length = length

    def extend(self, positions: Tensor, real: Tensor | None) -> None:
        """Make room for new tokens.

        Args:
            positions: (batch or 1, new).
            real: (batch or 1, new), False where a token is padding; None: all are real.

        Raises:
            GenerationError: if the capacity does not hold them.
        """
        end = self.length + positions.shape[1]
        if end > self.capacity:
            raise GenerationError(
                f"the cache holds {self.capacity} tokens and {end} are needed: "
                "make it larger or read the last window again"
            )
        new = (slice(self.length, end), slice(self.batch_size))
        self._positions[new] = positions.T
        if real is not None:
            self._real[new] = real.T
            self.padded = True
        self.length = end

    def store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write one layer's keys and values of the newest tokens and return all held so far.

        Args:
            layer: index of the layer.
            keys: (batch, heads, new, head_dim).
            values: (batch, heads, new, head_dim).

        Returns:
            Keys and values, (batch, heads, length, head_dim), in the format of those given: views
            of the buffers where these are in it.
        """
        held_keys, held_values = (
            buffer[layer, : self.length, : self.batch_size].permute(1, 2, 0, 3)
            for buffer in (self._keys, self._values)
        )
        start = self.length - keys.shape[2]
        held_keys[:, :, start:] = keys
        held_values[:, :, start:] = values
        return held_keys.to(keys.dtype), held_values.to(values.dtype)

    def reorder(self, rows: Tensor, shared: int = 0) -> None:
        """Make sequence i what sequence ``rows[i]`` was; the number of sequences may change.

        Only what must be is copied: no sequence that stays in its place, no column beyond
        ``length``, nothing at all when the last sequences leave. Sequences that come where
        there is no room for them move to new buffers.

        Args:
            rows: (new batch,), int64; on the CPU it makes no other device wait.
            shared: how many first tokens of the text are the same in sequence i and in sequence
                ``rows[i]``, for each i that there is already, as those of a common prompt; not
                copied there.

        Raises:
            GenerationError: if there is no such sequence.
        """
        wanted = taken(rows, self.batch_size, "sequences", "a cache of {count}")
        old, self.batch_size = self.batch_size, len(wanted)
        if len(wanted) > self._real.shape[1]:
            self._grow(rows.to(self._real.device))
            return
        # New sequences first: their places are the source of no other sequence, so that every
        # source is still unchanged when it is read.
        self._copy([(i, row) for i, row in enumerate(wanted) if i >= old], 0)
        moves = [(i, row) for i, row in enumerate(wanted[:old]) if i != row]
        self._copy(moves, self.prefix_length + shared)

    def _copy(self, moves: list[tuple[int, int]], start: int) -> None:
        """Copy the tokens from ``start`` on of all (to, from) sequences at once."""
        if not moves or start >= self.length:
            return
        to, source = torch.tensor(moves, device=self._real.device).unbind(1)
        for buffer in self._buffers():
            held = buffer[start : self.length]
            held.index_copy_(1, to, held.index_select(1, source))

    def _grow(self, rows: Tensor) -> None:
        """Move to buffers for just these sequences."""
        before = self._buffers()
        layers, capacity, _, *rest = self._keys.shape
        self._keys = self._keys.new_zeros(layers, capacity, len(rows), *rest)
        self._values = torch.zeros_like(self._keys)
        self._positions = self._positions.new_zeros(capacity, len(rows))
        self._real = self._real.new_ones(capacity, len(rows))
        for new, old in zip(self._buffers(), before, strict=True):
            new[: self.length] = old[: self.length].index_select(1, rows)

    def _buffers(self) -> list[Tensor]:
        """Return every buffer, (capacity, batch, …).

        One layer at a time keeps what is held twice while sequences change places small.
        """
        return [*self._keys, *self._values, self._positions, self._real]

    def truncate(self, length: int) -> None:
        """Forget all but the first ``length`` tokens of every sequence."""
        if not 0 <= length <= self.length:
            raise GenerationError(f"cannot truncate a cache of {self.length} tokens to {length}")
        self.length = length
        self._real[length:] = True
