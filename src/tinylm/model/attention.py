"""Multi-head attention (Vaswani et al. 2017, section 3.2), all heads at once.

Queries, keys and values of every head come from one projection; in cross-attention queries come
from one, and keys and values, which are of another text, from a second. ``head_dim`` is free of
``hidden_size``: 300 with 8 heads takes head_dim 38, so the projections are 300 -> 3 * 304 and
304 -> 300, and scores are scaled by 1/sqrt(38). Scores and pattern are whole tensors,
``batch * heads * seq^2`` numbers each, which is what makes them visible to the hooks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.model.dropout import Dropout
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.reading import Crossed, Reading


class HeadMixing(nn.Module):
    """What attention does with queries, keys and values, wherever they come from."""

    name: str
    num_heads: int
    head_dim: int
    output: nn.Module
    dropout: nn.Module

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
            bias: added to the scores, (batch or 1, heads, queries, keys), or None.
            hooks: see scores and pattern.

        Returns:
            (batch, heads, queries, head_dim).
        """
        scores = query / math.sqrt(self.head_dim) @ key.mT  # (batch, heads, queries, keys)
        if bias is not None:
            scores = scores + bias.to(scores.dtype)
        scores = hooks(f"{self.name}.scores", scores)
        if blocked is not None:
            # A finite number, not -inf: a padded query may see no key at all, and its row must not
            # turn into NaN.
            scores = scores + blocked.to(scores.dtype) * (torch.finfo(scores.dtype).min / 2)
        pattern = hooks(f"{self.name}.pattern", scores.softmax(-1))
        mixed: Tensor = self.dropout(pattern) @ value
        return mixed

    def join(self, mixed: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Return what the layer adds, (batch, seq, hidden), of all heads' mixed values."""
        mixed = hooks(f"{self.name}.mixed", mixed)  # (batch, heads, seq, head_dim)
        joined = mixed.transpose(1, 2).flatten(2)  # (batch, seq, heads * head_dim)
        return hooks(f"{self.name}.output", self.output(joined))


class Attention(HeadMixing):
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
        query, key, value = self.project(x, reading)
        key_positions = reading.positions
        if reading.cache is not None:
            key, value = reading.cache.store(self.layer, key, value)
            key_positions = reading.cache.positions
        bias = reading.encoding.bias(reading.positions, key_positions)
        mixed = self.mix(query, key, value, reading.blocked, bias, reading.hooks)
        return self.join(mixed, reading.hooks)

    def prefix(self) -> tuple[Tensor, Tensor] | None:
        """Return keys and values that every text sees before its own; None: there are none.

        Returns:
            (heads, virtual tokens, head_dim) each.
        """
        return None

    def project(self, x: Tensor, reading: Reading) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (batch, heads, seq, head_dim) each."""
        projected = self.query_key_value(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        encoding, positions, hooks = reading.encoding, reading.positions, reading.hooks
        query = hooks(f"{self.name}.query", encoding.rotate(query, positions))
        key = hooks(f"{self.name}.key", encoding.rotate(key, positions))
        return query, key, hooks(f"{self.name}.value", value)


class CrossAttention(HeadMixing):
    """Attention of a text that is written to one that was read (Vaswani et al. 2017, 3.2.3).

    Queries come from the text that is written, keys and values from what an encoder has made of the
    other one, its memory. They tell nothing of positions but what is in the memory itself.
    """

    def __init__(self, config: ModelConfig, layer: int, name: str) -> None:
        super().__init__()
        self.layer = layer
        self.name = name
        self.num_heads = config.num_heads
        self.head_dim = config.resolved_head_dim
        width = self.num_heads * self.head_dim
        self.query = nn.Linear(config.hidden_size, width, bias=config.bias)
        self.key_value = nn.Linear(config.hidden_size, 2 * width, bias=config.bias)
        self.output = nn.Linear(width, config.hidden_size, bias=config.bias)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Mix into each position what it looks for in the memory.

        Args:
            x: (batch, seq, hidden).
            reading: what goes with it: the memory, or keys and values that were made of it before.

        Returns:
            (batch, seq, hidden).
        """
        hooks, crossed = reading.hooks, reading.crossed
        query = self.queries(x, hooks)
        if reading.memory is not None:
            key, value = self.keys_and_values(reading.memory, hooks)
            if crossed is not None:
                crossed.put(self.layer, key, value)
            mixed = self.mix(query, key, value, reading.memory_blocked, None, hooks)
        else:
            assert crossed is not None
            mixed = self.mix_held(query, crossed, hooks)
        return self.join(mixed, hooks)

    def mix_held(self, query: Tensor, crossed: Crossed, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Return mixed values, (batch, heads, seq, head_dim), of keys and values made before."""
        if hooks.active:  # each text with keys of its own, so that activations have their shapes
            return self.mix(query, *crossed.for_each_text(self.layer), None, hooks)
        key, value, blocked = crossed.held(self.layer)
        return crossed.apart(self.mix(crossed.together(query), key, value, blocked))

    def queries(self, x: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Return the queries of a text, (batch, heads, seq, head_dim)."""
        query = self.query(x).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
        return hooks(f"{self.name}.query", query)

    def keys_and_values(self, memory: Tensor, hooks: Hooks = NO_HOOKS) -> tuple[Tensor, Tensor]:
        """Return keys and values of a memory, (batch, heads, its seq, head_dim) each."""
        projected = self.key_value(memory).unflatten(-1, (2, self.num_heads, self.head_dim))
        key, value = projected.permute(2, 0, 3, 1, 4)
        return hooks(f"{self.name}.key", key), hooks(f"{self.name}.value", value)
