"""The tokens that were read so far, for a model that reads all of them again for the next."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tinylm.errors import GenerationError
from tinylm.model.cache import taken


class ReadTexts:
    """Ids of a batch of texts: 8 bytes a token, whatever the model is made of."""

    def __init__(self, batch_size: int, capacity: int, device: torch.device) -> None:
        """Begin with texts that are still empty.

        Args:
            batch_size: texts.
            capacity: most tokens of each.
            device: where the model is.
        """
        self.batch_size = batch_size
        """Texts."""
        self.capacity = capacity
        """Most tokens of each."""
        self.padded = False
        """Whether padding was ever among them."""
        self._tokens: list[Tensor] = []  # ids, (batch, some); or what was given in their place
        self._positions = torch.empty(batch_size, 0, dtype=torch.long, device=device)
        self._real = torch.empty(batch_size, 0, dtype=torch.bool, device=device)

    @property
    def length(self) -> int:
        """Tokens read of each text, padding included."""
        return self._real.shape[1]

    @property
    def positions(self) -> Tensor:
        """Position of each token, (batch, length)."""
        return self._positions

    @property
    def real(self) -> Tensor:
        """Which tokens are not padding, (batch, length), bool."""
        return self._real

    @property
    def num_bytes(self) -> int:
        """Bytes of the tokens."""
        return sum(each.numel() * each.element_size() for each in self._tokens)

    def extend(self, tokens: Tensor, positions: Tensor, real: Tensor | None) -> None:
        """Take in new tokens.

        Args:
            tokens: ids, (batch, new), or embeddings in their place, (batch, new, hidden).
            positions: (batch or 1, new).
            real: (batch, new), False where a token is padding; None: all are real.

        Raises:
            GenerationError: if there are more than the capacity.
        """
        new = tokens.shape[1]
        if self.length + new > self.capacity:
            raise GenerationError(
                f"the state is for texts of {self.capacity} tokens and {self.length + new} are "
                "needed: read the last window again"
            )
        if real is None:
            real = self._real.new_ones(self.batch_size, new)
        else:
            self.padded = True
        self._real = torch.cat([self._real, real], 1)
        self._positions = torch.cat([self._positions, positions.expand(self.batch_size, -1)], 1)
        if self._tokens and self._tokens[-1].dtype == tokens.dtype:
            tokens = torch.cat([self._tokens.pop(), tokens], 1)
        self._tokens.append(tokens)

    def embeddings(self, embed: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what all tokens are embedded as, (batch, length, hidden)."""
        parts = [part if part.is_floating_point() else embed(part) for part in self._tokens]
        return torch.cat(parts, 1)

    def reorder(self, rows: Tensor, shared: int = 0) -> None:
        """Make text i what text ``rows[i]`` was; the number of texts may change.

        Args:
            rows: (new batch,), int64.
            shared: first tokens that are the same; so little is copied that it does not matter.

        Raises:
            GenerationError: if there is no such text.
        """
        self.batch_size = len(taken(rows, self.batch_size))
        rows = rows.to(self._real.device)
        self._tokens = [each.index_select(0, rows) for each in self._tokens]
        self._positions = self._positions.index_select(0, rows)
        self._real = self._real.index_select(0, rows)
