"""Rows of ids divided into what an encoder reads and what a decoder reads.

The first ``given`` real tokens of a row are its source. The decoder begins with the last of them,
from which the first token after the source is predicted, so that its outputs stand at the places of
the labels and no token is needed that stands for a start: one token of each row is read by both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.errors import GenerationError


@dataclass(frozen=True)
class Division:
    """Where the tokens of both parts stand in rows, and where the decoder's outputs go back to."""

    source: int
    """Places that the longest source takes."""
    places: Tensor
    """Of each place of both parts its place in the rows, (source + target, batch)."""
    real: Tensor | None
    """(batch, source + target), False where a place of a part is empty; None: all are real."""
    outputs: Tensor
    """Of each place in the rows its place in the decoder's part, (seq, batch); 0 where it has
    none."""
    absent: Tensor
    """(seq, batch), True at places that the decoder does not read: padding, and the source."""

    def take(self, x: Tensor) -> Tensor:
        """Return both parts of rows, (batch, seq, hidden), as (batch, source + target, hidden)."""
        seq, batch = self.absent.shape
        flat = x.transpose(0, 1).reshape(seq * batch, -1)
        index = self.places * batch + torch.arange(batch, device=x.device)
        parts = flat.index_select(0, index.flatten())
        return parts.view(len(index), batch, -1).transpose(0, 1)

    def put_back(self, x: Tensor) -> Tensor:
        """Return the decoder's outputs, (batch, target, hidden), at their places in the rows.

        Returns:
            (batch, seq, hidden), 0 where the decoder reads nothing.
        """
        seq, batch = self.outputs.shape
        flat = x.transpose(0, 1).reshape(x.shape[1] * batch, -1)
        index = self.outputs * batch + torch.arange(batch, device=x.device)
        rows = flat.index_select(0, index.flatten()).view(seq, batch, -1)
        return rows.masked_fill(self.absent[..., None], 0).transpose(0, 1)


def divide(
    shape: tuple[int, int],
    real: Tensor | None,
    given: Tensor | None,
    device: torch.device,
    whole: bool = False,
) -> Division:
    """Divide rows.

    Args:
        shape: batch and seq of the rows.
        real: (batch, seq), False where a token is padding, on whichever side; None: all are real.
        given: (batch,), how many first real tokens are the source, one at least; None: the first
            alone.
        device: of the rows.
        whole: refuse a source that the row has not all tokens of; else what it has is the source.

    Raises:
        GenerationError: if a source is empty, or not whole, naming the row.
    """
    batch, seq = shape
    if given is None:
        given = torch.ones(batch, dtype=torch.long, device=device)
    if (empty := given < 1).any():
        row = int(empty.nonzero()[0])
        raise GenerationError(
            f"row {row} has a source of {int(given[row])} tokens: it takes one at least"
        )
    if real is None:
        rank = torch.arange(seq, device=device).expand(batch, seq)
        lengths = torch.full((batch,), seq, device=device)
        order = rank
    else:
        rank = real.cumsum(1) - 1  # of each real token among those of its row
        lengths = real.sum(1)
        order = (~real).to(torch.int8).argsort(stable=True, dim=1)  # real tokens first
    if whole and (short := given > lengths).any():
        row = int(short.nonzero()[0])
        raise GenerationError(
            f"row {row} has a source of {int(given[row])} tokens and {int(lengths[row])} are read: "
            "read the whole source in the first pass"
        )
    given = torch.minimum(given, lengths.clamp(min=1))
    targets = lengths - given + 1  # of an empty row too: one place, which is not real
    source, target = int(given.max()), max(1, int(targets.max()))
    of_source = torch.arange(source, device=device).expand(batch, source)
    of_target = torch.arange(target, device=device) + given[:, None] - 1
    places = torch.cat([of_source, of_target], 1).clamp(max=seq - 1)
    inside = torch.cat(
        [of_source < torch.minimum(given, lengths)[:, None], of_target < lengths[:, None]], 1
    )
    outputs = rank - given[:, None] + 1
    absent = outputs < 0
    if real is not None:
        absent = absent | ~real
    return Division(
        source,
        order.gather(1, places).T,
        None if inside.all() else inside,
        outputs.clamp(0, target - 1).T,
        absent.T,
    )
