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
from tinylm.fast import loops
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.layers import Dropout, linear
from tinylm.model.reading import Reading

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

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Mix each position with those it may see.

        Args:
            x: (batch, seq, hidden).
            reading: what goes with it; new keys and values are written to its cache.

        Returns:
            (batch, seq, hidden).
        """
        seq, encoding, hooks = x.shape[1], reading.encoding, reading.hooks
        positions, blocked = reading.positions, reading.blocked
        query, key, value = self.project(x, reading)
        key_positions = positions
        if reading.cache is not None:
            key, value = reading.cache.store(self.layer, key, value)
            key_positions = reading.cache.positions

        if blocked is None or hooks.active or seq <= _BLOCK:
            bias = encoding.bias(positions, key_positions)
            mixed = self.mix(query, key, value, blocked, bias, hooks)
        else:
            blocks = [
                self.mix(
                    query[:, :, rows],
                    key[:, :, seen],
                    value[:, :, seen],
                    blocked[:, :, rows, seen],
                    encoding.bias(positions[:, rows], key_positions[:, seen]),
                )
                for rows, seen in _blocks(blocked, seq)
            ]
            mixed = torch.cat(blocks, 2)
        return self.join(mixed, hooks)

    def project(self, x: Tensor, reading: Reading) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (batch, heads, seq, head_dim) each."""
        (batch, seq, _), encoding, hooks = x.shape, reading.encoding, reading.hooks
        projected = linear(self.query_key_value, x).view(
            batch, seq, 3, self.num_heads, self.head_dim
        )
        if loops.serve(projected):
            from tinylm.fast.loops.attention import split_heads

            query, key, value = split_heads(projected)
        else:
            query, key, value = projected.permute(2, 0, 3, 1, 4)
        query = hooks(f"{self.name}.query", encoding.rotate(query, reading.positions))
        key = hooks(f"{self.name}.key", encoding.rotate(key, reading.positions))
        return query, key, hooks(f"{self.name}.value", value)

    def mix(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        blocked: Tensor | None,
        bias: Tensor | None = None,
        hooks: Hooks = NO_HOOKS,
    ) -> Tensor:
        """Return the values that each query sees, mixed by ``softmax(query key^T / sqrt(d))``.

        Args:
            query: (batch, heads, queries, head_dim).
            key: (batch, heads, keys, head_dim).
            value: (batch, heads, keys, head_dim).
            blocked: (batch or 1, heads or 1, queries, keys), True where a key must not be seen, or
                None.
            bias: added to the scores, (batch or 1, heads, queries, keys).
            hooks: see scores and pattern.

        Returns:
            (batch, heads, queries, head_dim).
        """
        # A cache may hold keys in another format than that of new queries.
        if (
            blocked is not None
            and bias is None
            and not hooks.active
            and loops.serve(query, key, value)
        ):
            from tinylm.fast.loops.attention import mix_values

            factor = 1 / math.sqrt(self.head_dim)
            drawn = self.dropout.draw()
            return mix_values(query @ key.mT, value, blocked[:, 0], factor, *drawn)
        # A cache may hold keys in another format than that of new queries.
        scores = query.to(key.dtype) / math.sqrt(self.head_dim) @ key.mT
        if bias is not None:
            scores = scores + bias
        scores = hooks(f"{self.name}.scores", scores)  # (batch, heads, queries, keys)
        if blocked is not None:
            # A finite number, not -inf: a padded query may see no key at all, and its row must not
            # turn into NaN. Added, which is quicker than filling in, forwards and backwards.
            scores = scores + blocked.to(scores.dtype) * (torch.finfo(scores.dtype).min / 2)
        pattern = hooks(f"{self.name}.pattern", scores.softmax(-1))
        kept: Tensor = self.dropout(pattern)
        return kept.to(value.dtype) @ value

    def join(self, mixed: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Return what the layer adds, (batch, seq, hidden), of all heads' mixed values."""
        mixed = hooks(f"{self.name}.mixed", mixed)  # (batch, heads, seq, head_dim)
        if loops.serve(mixed):
            from tinylm.fast.loops.attention import join_heads

            joined = join_heads(mixed)
        else:
            joined = mixed.transpose(1, 2).flatten(2)  # (batch, seq, heads * head_dim)
        return hooks(f"{self.name}.output", linear(self.output, joined))


def _blocks(blocked: Tensor, seq: int) -> Iterator[tuple[slice, slice]]:
    """Yield the queries of each block, and the keys up to the last that one of them sees."""
    for start in range(0, seq, _BLOCK):
        rows = slice(start, start + _BLOCK)
        seen = ~blocked[:, :, rows].all(dim=(0, 1, 2))  # (keys,)
        yield rows, slice(len(seen) - int(seen.flip(0).byte().argmax()))
