"""Attention, quick: softmax and dropout in one pass, texts in blocks, cached ones in place.

A block of queries is mixed at once, without the keys after the last that one of these sees: nearly
half of the work and of the memory. One new token of each text reads keys and values where they
stand in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tinylm.fast import loops
from tinylm.fast.cache import StepCache
from tinylm.fast.dropout import FastDropout
from tinylm.fast.linear import product, watched
from tinylm.model.attention import Attention, CrossAttention, HeadMixing
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.reading import Reading

_BLOCK = 256
"""Queries that are mixed at once by torch."""
_LOOP_BLOCK = 64
"""By the loops, in which a block costs little more than its work."""


class FastHeadMixing(HeadMixing):
    """Queries, keys and values by compiled loops where they suit, plain where hooks are active."""

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
        if hooks.active:
            return super().mix(query, key, value, blocked, bias, hooks)

        def part(rows: slice, keys: slice) -> Tensor | None:
            return None if bias is None else bias[..., rows, keys]

        learned = bias is not None and bias.requires_grad
        return self._in_blocks(query, key, value, blocked, part, learned)

    def _in_blocks(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        blocked: Tensor | None,
        bias: Callable[[slice, slice], Tensor | None],
        learned: bool,
    ) -> Tensor:
        """Return mixed values; ``bias`` gives that of some queries and keys, ``learned`` or not."""
        query = query.to(key.dtype)  # a cache may hold another format
        seq = query.shape[2]
        if blocked is None and torch.is_grad_enabled():
            blocked = torch.zeros(1, 1, 1, key.shape[2], dtype=torch.bool, device=key.device)
        if blocked is not None:
            blocked = blocked.expand(-1, -1, seq, -1)
        if (
            blocked is not None
            and blocked.shape[1] == 1
            and not learned
            and isinstance(self.dropout, FastDropout)
            and not watched(self.dropout)
            and loops.suit(query, key, value)
        ):
            blocks = list(_blocks(blocked, seq, _LOOP_BLOCK))
            draws, dropped = zip(*(self.dropout.draw() for _ in blocks), strict=True)
            factor = 1 / math.sqrt(self.head_dim)
            return loops.attention.attend(
                *(query, key, value, blocked[:, 0], blocks, bias, factor, draws, dropped[0])
            )
        if blocked is None or seq <= _BLOCK:
            every = slice(None)
            return super().mix(query, key, value, blocked, bias(every, every))
        parts = [
            super(FastHeadMixing, self).mix(
                query[:, :, rows],
                key[:, :, :end],
                value[:, :, :end],
                blocked[:, :, rows, :end],
                bias(rows, slice(end)),
            )
            for rows, end in _blocks(blocked, seq, _BLOCK)
        ]
        return torch.cat(parts, 2)

    def join(self, mixed: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Return what the layer adds, (batch, seq, hidden), of all heads' mixed values."""
        if hooks.active or not loops.suit(mixed):
            return super().join(mixed, hooks)
        return product(self.output, loops.attention.join_heads(mixed))


class FastAttention(FastHeadMixing, Attention):
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

        def bias(rows: slice, keys: slice) -> Tensor | None:
            return reading.encoding.bias(positions[:, rows], key_positions[:, keys])

        learned = type(reading.encoding).biases() and any(
            parameter.requires_grad for parameter in reading.encoding.parameters()
        )
        return self.join(self._in_blocks(query, key, value, blocked, bias, learned))

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


class FastCrossAttention(FastHeadMixing, CrossAttention):
    """Cross-attention by compiled loops where they suit, plain where hooks are active."""

    def forward(self, x: Tensor, reading: Reading, low: Tensor | None = None) -> Tensor:
        """Mix in what each position looks for; ``low`` is ``x`` in bfloat16."""
        if reading.hooks.active or reading.memory is None or reading.crossed is not None:
            return super().forward(x, reading)
        query = self.queries(x, low=low)
        key, value = self.keys_and_values(reading.memory)
        return self.join(self.mix(query, key, value, reading.memory_blocked))

    def queries(self, x: Tensor, hooks: Hooks = NO_HOOKS, low: Tensor | None = None) -> Tensor:
        """Return the queries of a text, (batch, heads, seq, head_dim)."""
        if hooks.active:
            return super().queries(x, hooks)
        (query,) = self._apart(product(self.query, x, low), 1)
        return query

    def keys_and_values(self, memory: Tensor, hooks: Hooks = NO_HOOKS) -> tuple[Tensor, Tensor]:
        """Return keys and values of a memory, (batch, heads, its seq, head_dim) each."""
        if hooks.active:
            return super().keys_and_values(memory, hooks)
        key, value = self._apart(product(self.key_value, memory), 2)
        return key, value

    def _apart(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Return parts of a projection, (batch, heads, seq, head_dim) each."""
        projected = projected.view(*projected.shape[:-1], parts, self.num_heads, self.head_dim)
        if loops.suit(projected):
            return loops.attention.split_heads(projected)
        return projected.permute(2, 0, 3, 1, 4).unbind(0)


def _blocks(blocked: Tensor, seq: int, size: int) -> Iterator[tuple[slice, int]]:
    """Yield the queries of each block, and how many keys there are up to the last they see."""
    blocked_for_all = blocked.view(torch.uint8).amin((0, 1))  # (queries, keys)
    for start in range(0, seq, size):
        rows = slice(start, min(start + size, seq))
        seen = 1 - blocked_for_all[rows].amin(0)  # (keys,)
        yield rows, len(seen) - int(seen.flip(0).argmax())
