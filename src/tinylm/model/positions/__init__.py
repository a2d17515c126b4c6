"""Positional encodings, one a file.

A position can act at three points; each is the identity by default:

- ``add`` to the scaled embeddings (sinusoidal, learned),
- ``rotate`` queries and keys (rotary),
- ``bias`` of the attention scores (ALiBi and its kin).

Positions are always passed explicitly, because with a cache or padding they are not 0, 1, 2, ….

An encoding says itself what it costs and what there is to say of it, so that planning and report
need not know its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from tinylm.config import ModelConfig


@dataclass(frozen=True)
class Explanation:
    """What the report says of an encoding, as inline markup of its texts."""

    text: str
    """Whole sentences: how the order of the tokens enters, with the source."""
    equation: str = ""
    """In Typst's mathematics, after the text; empty: none."""
    rest: str = ""
    """Whole sentences after the equation."""


class Positions(nn.Module):
    """The encoding that does nothing; a new one overrides one of the three points."""

    label: ClassVar[str]
    """Its name for a reader, a plural such as ``rotary positions``."""

    @classmethod
    def explanation(cls, config: ModelConfig) -> Explanation:
        """Return what the report says of it for a model of these sizes."""
        raise NotImplementedError

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()

    @classmethod
    def adds(cls) -> bool:
        """Whether it adds to the embeddings."""
        return cls.add is not Positions.add

    @classmethod
    def turns(cls) -> bool:
        """Whether it turns queries and keys."""
        return cls.rotate is not Positions.rotate

    @classmethod
    def biases(cls) -> bool:
        """Whether it adds to the scores."""
        return cls.bias is not Positions.bias

    @classmethod
    def num_parameters(cls, config: ModelConfig) -> int:
        """Return its parameters, all of them trained."""
        return 0

    @classmethod
    def table_bytes(cls, config: ModelConfig) -> int:
        """Return the bytes of its tables and of what they are made of, held while it is built."""
        return 0

    @classmethod
    def kept_bytes(cls, config: ModelConfig, seq: int) -> int:
        """Return the bytes that adding to the embeddings keeps for the backward pass."""
        return 0

    @classmethod
    def kept_bytes_in_layer(cls, config: ModelConfig, seq: int) -> int:
        """Return the bytes that each layer keeps of it for the backward pass, for any batch."""
        return 0

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
