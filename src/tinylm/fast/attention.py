"""Attention, quick: softmax and dropout in one pass, long texts in blocks, cached ones in place.

A long text is mixed for 256 queries at a time, without the keys after the last that one of these
sees: half of the work and of the memory. One new token of each text reads keys and values where
they stand in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tinylm.fast import loops
from tinylm.fast.cache import StepCache
from tinylm.fast.dropout import FastDropout
from tinylm.fast.linear import product, watched
from tinylm.model.attention import Attention
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.reading import Reading

_BLOCK = 256
"""Queries that are mixed at once."""


class FastAttention(Attention):
    """Multi-head self-attention by compiled loops where they suit, plain where hooks are active."""

    def forward(self, x: Tensor, reading: Reading, low: Tensor | None = None) -> Tensor:
        """Mix each position with those it may see; ``low`` is ``x`` in bfloat16."""
        if reading.hooks.active:
            return super().forward(x, reading)
        cache, blocked = reading.cache, reading.blocked
        if isinstance(cache, StepCache) and cache.can_attend(x):
            projected = product(self.query_key_value, x[:, 0], low)
            mixed = cache.attend(projected, self.layer, reading.positions)
            return product(self.output, mixed)[:, None]
        query, key, value = self.project(x, reading, low)
        positions = key_positions = reading.positions
        if cache is not None:
            key, value = cache.store(self.layer, key, value)
            key_positions = cache.positions
        if blocked is None or x.shape[1] <= _BLOCK:
            bias = reading.encoding.bias(positions, key_positions)
            return self.join(self.mix(query, key, value, blocked, bias))
        blocks = [
            self.mix(
                query[:, :, rows],
                key[:, :, seen],
                value[:, :, seen],
                blocked[:, :, rows, seen],
                reading.encoding.bias(positions[:, rows], key_positions[:, seen]),
            )
            for rows, seen in _blocks(blocked, x.shape[1])
        ]
        return self.join(torch.cat(blocks, 2))

    def project(
        self, x: Tensor, reading: Reading, low: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (batch, heads, seq, head_dim) each."""
        if reading.hooks.active:
            return super().project(x, reading)
        projected = product(self.query_key_value, x, low)
        projected = projected.view(*x.shape[:-1], 3, self.num_heads, self.head_dim)
        if loops.suit(projected):
            query, key, value = loops.attention.split_heads(projected)
        else:
            query, key, value = projected.permute(2, 0, 3, 1, 4)
        encoding, positions = reading.encoding, reading.positions
        return encoding.rotate(query, positions), encoding.rotate(key, positions), value

    def mix(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        blocked: Tensor | None,
        bias: Tensor | None = None,
        hooks: Hooks = NO_HOOKS,
    ) -> Tensor:
        """Return the values that each query sees, mixed; see ``Attention.mix``."""
        query = query.to(key.dtype)  # a cache may hold another format
        if (
            blocked is not None
            and not hooks.active
            and isinstance(self.dropout, FastDropout)
            and not watched(self.dropout)
            and loops.suit(query, key, value)
        ):
            factor, drawn = 1 / math.sqrt(self.head_dim), self.dropout.draw()
            scores = query @ key.mT
            if bias is not None:  # the loop multiplies it by the factor, too
                scores += bias / factor
            return loops.attention.mix_values(scores, value, blocked[:, 0], factor, *drawn)
        return super().mix(query, key, value, blocked, bias, hooks)

    def join(self, mixed: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Return what the layer adds, (batch, seq, hidden), of all heads' mixed values."""
        if hooks.active or not loops.suit(mixed):
            return super().join(mixed, hooks)
        return product(self.output, loops.attention.join_heads(mixed))


def _blocks(blocked: Tensor, seq: int) -> Iterator[tuple[slice, slice]]:
    """Yield the queries of each block, and the keys up to the last that one of them sees."""
    for start in range(0, seq, _BLOCK):
        rows = slice(start, start + _BLOCK)
        seen = ~blocked[:, :, rows].all(dim=(0, 1, 2))  # (keys,)
        yield rows, slice(len(seen) - int(seen.flip(0).byte().argmax()))
