"""A batch of rows cut into what an encoder reads and what a decoder reads.

A row's first tokens are its source. The decoder begins with the last of them, so that what it gives
at a place is what the token after it is predicted from, as in a decoder-only model, and no token
that only marks the start is needed. Both halves stand at the left of their tensors, filled up at
the right, however a row was padded; rows may be cut at different places.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Halves:
    """Which places of a batch of rows each half takes."""

    lengths: Tensor
    """Tokens of each source, (batch,)."""
    source: Tensor
    """Places in the row of the tokens of the source, (batch, longest source)."""
    source_real: Tensor | None
    """(batch, longest source), False where a source has no token; None: all are as long."""
    written: Tensor
    """Places in the row of the tokens that the decoder reads, (batch, most of them)."""
    written_real: Tensor | None
    """(batch, most of them), likewise."""
    shape: tuple[int, int]
    """Of the batch: rows, tokens of each."""

    @classmethod
    def of(cls, x: Tensor, real: Tensor | None, given: Tensor | None) -> Halves:
        """Cut the rows of a batch.

        Args:
            x: ids or embeddings, (batch, seq) or (batch, seq, hidden).
            real: (batch, seq), False where a token is padding; None: all are real.
            given: (batch,), how many first real tokens are a row's source; at least one is, and at
                most all. None: the first alone.
        """
        batch, seq = x.shape[:2]
        if real is None:
            order = torch.arange(seq, device=x.device).expand(batch, -1)
            counts = torch.full((batch,), seq, device=x.device)
        else:  # the places of real tokens first, in order
            order = (~real).to(torch.uint8).argsort(dim=1, stable=True)
            counts = real.sum(1).clamp(min=1)
        sources = torch.ones_like(counts) if given is None else given.to(x.device)
        sources = torch.minimum(sources.clamp(min=1), counts)
        source_places = torch.arange(int(sources.max()), device=x.device).expand(batch, -1)
        source_real = source_places < sources[:, None]
        most = int((counts - sources).max()) + 1
        written_places = torch.arange(most, device=x.device) + sources[:, None] - 1
        written_real = written_places < counts[:, None]
        return cls(
            sources,
            order.gather(1, source_places),
            None if source_real.all() else source_real,
            order.gather(1, written_places.clamp(max=seq - 1)),
            None if written_real.all() else written_real,
            (batch, seq),
        )

    @property
    def ends(self) -> Tensor:
        """Return the place in the row of each source's last token, (batch, 1)."""
        return self.written[:, :1]

    def back(self, x: Tensor) -> Tensor:
        """Return what belongs to the decoder's tokens at their places in the rows.

        Args:
            x: (batch, tokens that the decoder reads, hidden).

        Returns:
            (batch, seq, hidden), 0 at places before the end of the source and at padding.
        """
        batch, seq = self.shape
        first = torch.arange(batch, device=x.device)[:, None] * seq
        places, rows = (first + self.written).flatten(), x.flatten(0, 1)
        if self.written_real is not None:
            chosen = self.written_real.flatten().nonzero()[:, 0]
            places, rows = places[chosen], rows.index_select(0, chosen)
        out = rows.new_zeros(batch * seq, x.shape[-1])
        return out.index_put((places,), rows).view(batch, seq, -1)


def taken(x: Tensor, places: Tensor) -> Tensor:
    """Return what stands at some places of each row.

    Args:
        x: (batch, seq) or (batch, seq, hidden).
        places: (batch, taken), int64.

    Returns:
        (batch, taken) or (batch, taken, hidden).
    """
    if x.dim() == 2:
        return x.expand(len(places), -1).gather(1, places)
    first = torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
    return x.flatten(0, 1).index_select(0, (first + places).flatten()).view(*places.shape, -1)
