"""What the loops of decoding know of a positional encoding: tables made from the encoding itself.

Queries and keys are turned by a matrix a position, which is what ``rotate`` makes of the unit
vectors; scores are biased by a number a head and distance. Both are computed from the encoding
once, and compared with it on other vectors and pairs. An encoding that acts otherwise (that is not
linear, or biases by more than the distance) has no tables, and its steps are run layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.fast import loops
from tinylm.model.positions import Positions

if TYPE_CHECKING:
    from tinylm.fast.loops.single_token import Encoding

_NEAR = 1e-4
_SAMPLES = 16
"""Positions at which it is checked whether the heads differ."""


@dataclass(frozen=True)
class EncodingTables:
    """How an encoding acts on queries, keys and scores, but not what it adds to embeddings."""

    turn: Tensor | None
    """(context, heads or 1, head_dim, head_dim), float32: a row for each number of the vector, by
    which it is multiplied; None: nothing is turned."""
    bias: Tensor | None
    """(heads, distances), float32: added to the score of a key so many positions before; None:
    nothing is added."""

    def at(self, places: Sequence[int]) -> Encoding:
        """Return the encoding as the loops read it, for a new token of each text at its place."""
        if self.turn is None and self.bias is None:
            return loops.single_token.NO_ENCODING
        return loops.single_token.Encoding(self.turn, self.bias, torch.tensor(places))


@torch.no_grad()
def tables_of(encoding: Positions, config: ModelConfig, prefix: int = 0) -> EncodingTables | None:
    """Return the tables of an encoding, or None if it cannot be put into tables.

    Args:
        encoding: of the model, on a CPU.
        config: gives context, heads and head_dim.
        prefix: virtual tokens before every text, at negative positions.
    """
    turn = bias = None
    if type(encoding).rotate is not Positions.rotate:
        turn = _turning_table(encoding, config)
        if turn is None:
            return None
    if type(encoding).bias is not Positions.bias:
        bias = _bias_table(encoding, config, prefix)
        if bias is None:
            return None
    return EncodingTables(turn, bias)


def _turning_table(encoding: Positions, config: ModelConfig) -> Tensor | None:
    context, heads, size = config.context_length, config.num_heads, config.resolved_head_dim
    some = torch.linspace(0, context - 1, min(context, _SAMPLES)).long()
    sample = _turned_units(encoding, some, heads, size)
    differ = not torch.equal(sample, sample[:, :1].expand_as(sample))
    table = _turned_units(encoding, torch.arange(context), heads if differ else 1, size)
    vectors = torch.randn(heads, context, size, generator=torch.Generator().manual_seed(0))
    expected = encoding.rotate(vectors[None], torch.arange(context)[None])[0]
    turned = torch.einsum("hpi,phij->hpj", vectors, table.expand(-1, heads, -1, -1))
    if not torch.allclose(turned, expected, rtol=_NEAR, atol=_NEAR):
        return None
    return table.float().contiguous()


def _turned_units(encoding: Positions, places: Tensor, heads: int, size: int) -> Tensor:
    """Return the turned unit vectors at some positions, (positions, heads, size, size)."""
    units = torch.eye(size).repeat(len(places), 1).expand(1, heads, -1, -1)
    turned = encoding.rotate(units, places.repeat_interleave(size)[None])[0]
    return turned.view(heads, len(places), size, size).transpose(0, 1)


def _bias_table(encoding: Positions, config: ModelConfig, prefix: int) -> Tensor | None:
    keys = torch.arange(-prefix, config.context_length)
    some = torch.linspace(0, len(keys) - 1, min(len(keys), _SAMPLES)).long()
    sample = encoding.bias(keys[some][None], keys[None])
    if sample is None:
        return None
    sample = sample[0].expand(config.num_heads, -1, -1)  # (heads, queries, keys)
    table = sample[:, -1].flip(-1)  # of the last query: its own key first
    for row, query in enumerate(some.tolist()):
        seen = sample[:, row, : query + 1].flip(-1)
        if not torch.allclose(seen, table[:, : query + 1], rtol=_NEAR, atol=_NEAR):
            return None
    return table.float().contiguous()
