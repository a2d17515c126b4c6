"""Keys and values of the tokens already read, so that a new token costs one position.

Buffers are allocated once for ``capacity`` tokens; nothing is concatenated. Memory is
``num_layers * 2 * batch * num_heads * head_dim * capacity * bytes_per_number``.

Cached keys hold absolute positions, so the oldest tokens cannot be dropped and the rest moved up:
a sequence that outgrows the context is read again from its last window (``generation``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.errors import GenerationError


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
    ) -> None:
        """Allocate the buffers.

        Args:
            config: gives layers, heads, head_dim, and the default capacity, its context_length.
            batch_size: number of sequences.
            capacity: most tokens a sequence, padding included.
            device: where the model is.
            dtype: the model's number format.
        """
        self.capacity = capacity or config.context_length
        shape = (
            config.num_layers,
            batch_size,
            config.num_heads,
            self.capacity,
            config.resolved_head_dim,
        )
        self._keys = torch.zeros(shape, device=device, dtype=dtype)
        self._values = torch.zeros(shape, device=device, dtype=dtype)
        self._positions = torch.zeros(batch_size, self.capacity, device=device, dtype=torch.long)
        self._real = torch.zeros(batch_size, self.capacity, device=device, dtype=torch.bool)
        self.length = 0
        """Tokens held, padding included; the same for every sequence of the batch."""

    @property
    def batch_size(self) -> int:
        """Number of sequences."""
        return self._real.shape[0]

    @property
    def positions(self) -> Tensor:
        """Position of each token held, (batch, length)."""
        return self._positions[:, : self.length]

    @property
    def real(self) -> Tensor:
        """Which tokens held are not padding, (batch, length), bool."""
        return self._real[:, : self.length]

    @property
    def num_bytes(self) -> int:
        """Bytes of the key and value buffers."""
        return 2 * self._keys.numel() * self._keys.element_size()

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
        self._positions[:, self.length : end] = positions
        self._real[:, self.length : end] = True if real is None else real
        self.length = end

    def store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write one layer's keys and values of the newest tokens and return all held so far.

        Args:
            layer: index of the layer.
            keys: (batch, heads, new, head_dim).
            values: (batch, heads, new, head_dim).

        Returns:
            Keys and values, (batch, heads, length, head_dim), views of the buffers.
        """
        start = self.length - keys.shape[2]
        self._keys[layer, :, :, start : self.length] = keys
        self._values[layer, :, :, start : self.length] = values
        return self._keys[layer, :, :, : self.length], self._values[layer, :, :, : self.length]

    def reorder(self, rows: Tensor) -> None:
        """Make sequence i what sequence ``rows[i]`` was; the number of sequences may change."""
        self._keys = self._keys.index_select(1, rows)
        self._values = self._values.index_select(1, rows)
        self._positions = self._positions.index_select(0, rows)
        self._real = self._real.index_select(0, rows)

    def truncate(self, length: int) -> None:
        """Forget all but the first ``length`` tokens of every sequence."""
        if not 0 <= length <= self.length:
            raise GenerationError(f"cannot truncate a cache of {self.length} tokens to {length}")
        self.length = length
