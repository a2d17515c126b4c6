"""Positional encodings, one a file.

A position can act at three points; each is the identity by default:

- ``add`` to the scaled embeddings (sinusoidal, learned),
- ``rotate`` queries and keys (rotary),
- ``bias`` of the attention scores (ALiBi and its kin).

Positions are always passed explicitly, because with a cache or padding they are not 0, 1, 2, ….
"""

from __future__ import annotations

from torch import Tensor, nn

from tinylm.config import ModelConfig


class Positions(nn.Module):
    """The encoding that does nothing; a new one overrides one of the three points."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()

    def add(self, embeddings: Tensor, positions: Tensor) -> Tensor:
        """Return embeddings with positions in them.

        Args:
            embeddings: (batch, seq, hidden), already scaled.
            positions: (batch or 1, seq), int64, each below context_length.
        """
        return embeddings

    def rotate(self, vectors: Tensor, positions: Tensor) -> Tensor:
        """Return queries or keys, (batch, heads, seq, head_dim), with positions in them."""
        return vectors

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """Return an addend of the scores, (batch or 1, heads, queries, keys), or None."""
        return None
