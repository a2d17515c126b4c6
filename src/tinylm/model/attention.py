"""Masked multi-head self-attention (Vaswani et al. 2017, section 3.2), all heads at once.

Queries, keys and values of every head come from one projection. ``head_dim`` is free of
``hidden_size``: 300 with 8 heads takes head_dim 38, so the projections are 300 -> 3 * 304 and
304 -> 300, and scores are scaled by 1/sqrt(38). The scores and the pattern are materialised,
``batch * heads * seq^2`` numbers each, which is what makes them visible to the hooks. In a long
text that nobody watches they are computed for 256 queries at a time, without the keys after the
last of these, which none of them sees: half of the work and of the memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.model.cache import KVCache
from tinylm.model.hooks import Hooks
from tinylm.model.layers import Dropout
from tinylm.model.positions import Positions

_BLOCK = 256
"""Queries that are mixed at once where nobody watches."""


class Attention(nn.Module):
    """Multi-head self-attention with an optional cache."""

    def __init__(self, config: ModelConfig, layer: int, name: str) -> None:
        super().__init__()
        self.layer = layer
        self.name = name
        self.num_heads = config.num_heads
        self.head_dim = config.resolved_head_dim
        width = self.num_heads * self.head_dim
        self.query_key_value = nn.Linear(config.hidden_size, 3 * width, bias=config.bias)
        self.output = nn.Linear(width, config.hidden_size, bias=config.bias)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        encoding: Positions,
        positions: Tensor,
        blocked: Tensor,
        cache: KVCache | None,
        hooks: Hooks,
    ) -> Tensor:
        """Mix each position with those it may see.

        Args:
            x: (batch, seq, hidden).
            encoding: turns queries and keys, biases scores.
            positions: (batch or 1, seq).
            blocked: (batch or 1, 1, seq, keys), True where a query must not see a key.
            cache: earlier keys and values; the new ones are written to it.
            hooks: see every activation.

        Returns:
            (batch, seq, hidden).
        """
        batch, seq, _ = x.shape
        projected = self.query_key_value(x).view(batch, seq, 3, self.num_heads, self.head_dim)
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # (batch, heads, seq, head_dim)
        query = hooks(f"{self.name}.query", encoding.rotate(query, positions))
        key = hooks(f"{self.name}.key", encoding.rotate(key, positions))
        value = hooks(f"{self.name}.value", value)

        key_positions = positions
        if cache is not None:
            key, value = cache.store(self.layer, key, value)
            key_positions = cache.positions

        def mix(rows: slice, seen: int) -> Tensor:
            """Return (batch, heads, rows, head_dim), of queries that see the first keys only."""
            scores = query[:, :, rows] / math.sqrt(self.head_dim) @ key[:, :, :seen].mT
            bias = encoding.bias(positions[:, rows], key_positions[:, :seen])
            if bias is not None:
                scores = scores + bias
            scores = hooks(f"{self.name}.scores", scores)  # (batch, heads, rows, seen)
            # A finite number, not -inf: a padded query may see no key at all, and its row must not
            # turn into NaN. Added, which is quicker than filling in, forwards and backwards.
            least = torch.finfo(scores.dtype).min / 2
            scores = scores + blocked[:, :, rows, :seen].to(scores.dtype) * least
            pattern = hooks(f"{self.name}.pattern", scores.softmax(-1))
            return self.dropout(pattern).to(value.dtype) @ value[:, :, :seen]

        if hooks.active or seq <= _BLOCK:
            mixed = mix(slice(seq), key.shape[2])
        else:
            mixed = torch.cat([mix(rows, seen) for rows, seen in _blocks(blocked, seq)], 2)
        mixed = hooks(f"{self.name}.mixed", mixed)  # (batch, heads, seq, head_dim)
        joined = mixed.transpose(1, 2).reshape(batch, seq, -1)  # (batch, seq, heads * head_dim)
        return hooks(f"{self.name}.output", self.output(joined))


def _blocks(blocked: Tensor, seq: int) -> Iterator[tuple[slice, int]]:
    """Yield the queries of each block, and how many keys there are up to the last that one sees."""
    for start in range(0, seq, _BLOCK):
        rows = slice(start, start + _BLOCK)
        seen = ~blocked[:, :, rows].all(dim=(0, 1, 2))  # (keys,)
        yield rows, len(seen) - int(seen.flip(0).byte().argmax())
