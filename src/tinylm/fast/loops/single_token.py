"""What a decoder layer does with one new token of each text: linear maps, norms, attention.

Parts of the kernel that runs all layers at once (``decoding``), and kernels of their own for steps
of more texts, whose products are oneDNN's.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from numba import carray
from torch import Tensor

from tinylm.fast.loops.functions import gelu, gelu_tanh, silu
from tinylm.fast.loops.launch import (
    MEMORY,
    Kernel,
    address,
    exp,
    fetch_early,
    function,
    inline,
    largest_of,
    next_block,
    store,
    widen,
)

ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu")
"""Names of the functions that the kernel has."""
_RELU, _GELU, _SILU = 0, 1, 3
_AHEAD = 8
"""Tokens between what is read and what is fetched."""
_UNSEEN = np.float32(-3e38)


class Layout(NamedTuple):
    """Where the keys and values of all tokens stand."""

    keys: Tensor
    """(layers, capacity, room, heads, head_dim)."""
    values: Tensor
    """As the keys."""
    slots: Tensor
    """(capacity, room), int64: token t of text i stands in place ``slots[t, i]`` of ``room``."""
    real: Tensor | None
    """(capacity, room), False where a token is padding; None: none is."""
    positions: Tensor | None
    """(capacity, room), int64, where scores are biased by distance."""
    length: int
    """Tokens held, the new ones included."""


class Encoding(NamedTuple):
    """How a positional encoding acts."""

    turn: Tensor | None
    """(context, heads or 1, head_dim, head_dim), a row for each number of a query or key."""
    bias: Tensor | None
    """(heads, distances), added to scores."""
    places: Tensor | None
    """(texts,), int64, the positions of the new tokens, if there is one of the others."""


NO_ENCODING = Encoding(None, None, None)
"""One that does nothing to queries, keys and scores."""


@function
def activate(row, activation):
    """Apply one of ``ACTIVATIONS``, by its place, to a row."""
    if activation == _RELU:
        for i in range(len(row)):
            row[i] = row[i] if row[i] > 0 else np.float32(0)
    elif activation == _GELU:
        for i in range(len(row)):
            row[i] = gelu(row[i])
    elif activation == _SILU:
        for i in range(len(row)):
            row[i] = silu(row[i])
    else:
        for i in range(len(row)):
            row[i] = gelu_tanh(row[i])


@function
def normalise(row, place, eps, out):
    """Apply LayerNorm to a row; ``place`` holds the addresses of weight and bias."""
    size = len(row)
    weight = carray(address(place[0]), (size,), np.float32)
    bias = carray(address(place[1]), (size,), np.float32)
    mean = np.float32(0)
    for j in range(size):
        mean += row[j]
    mean /= np.float32(size)
    square = np.float32(0)
    for j in range(size):
        square += (row[j] - mean) * (row[j] - mean)
    rate = np.float32(1) / np.sqrt(square / np.float32(size) + eps)
    for j in range(size):
        out[j] = (row[j] - mean) * rate * weight[j] + bias[j]


@function
def turn_vector(vector, matrix, out):
    """Multiply a query or key, a row vector, by a matrix."""
    size = len(vector)
    for j in range(size):
        out[j] = 0
    for i in range(size):
        row, factor = matrix[i], vector[i]
        for j in range(size):
            out[j] += factor * row[j]


@inline
def _fetch_heads(held, t, slot, first, count):
    """Have the keys or values of a token fetched, for ``count`` heads from ``first`` on."""
    _, room, heads, size = held.shape
    start = ((t * room + slot) * heads + first) * size
    for i in range(0, count * size, 64 // held.itemsize):
        fetch_early(held, start + i)


@function
def attend_heads(
    queries, keys, values, slots, seen, positions, biases, place, row, first, scores, mixed
):
    """Mix the values of some heads, from ``first`` on, for one text; not ``seen`` is padding.

    Keys and values of a token are read for all of these heads at once: they stand beside each
    other, and those of the next token, where there are many texts, as far away as is worst for the
    processor's caches. A row of ``biases`` is added by distance from ``place``; there may be none.
    """
    count, size = queries.shape
    length = scores.shape[1]
    factor = np.float32(1) / np.sqrt(np.float32(size))
    ahead = _AHEAD if count > 1 else length
    for t in range(length):
        if t + ahead < length:
            _fetch_heads(keys, t + ahead, slots[t + ahead, row], first, count)
        slot = slots[t, row]
        known = len(seen) == 0 or seen[t, slot]
        for i in range(count):
            query, key, total = queries[i], keys[t, slot, first + i], np.float32(0)
            for j in range(size):
                total += query[j] * widen(key[j])
            scores[i, t] = total * factor if known else _UNSEEN
    for i in range(count):
        of_head, total = scores[i], np.float32(0)
        if len(biases) > 0:
            for t in range(length):
                distance = place - positions[t, slots[t, row]]
                if of_head[t] > _UNSEEN:  # padding has no position
                    of_head[t] += biases[first + i, distance]
        most = largest_of(of_head)
        for t in range(length):
            of_head[t] = exp(of_head[t] - most)
            total += of_head[t]
        for t in range(length):
            of_head[t] /= total
        for j in range(size):
            mixed[i, j] = 0
    for t in range(length):
        if t + ahead < length:
            _fetch_heads(values, t + ahead, slots[t + ahead, row], first, count)
        slot = slots[t, row]
        for i in range(count):
            out, value, weight = mixed[i], values[t, slot, first + i], scores[i, t]
            for j in range(size):
                out[j] += weight * widen(value[j])


def _attention_entry(numbers, cached):
    def entry(a):
        rows, heads, size, length, capacity, room = a[2], a[3], a[4], a[5], a[6], a[7]
        projected = carray(address(a[8]), (rows, 3, heads, size), numbers)
        keys = carray(address(a[9]), (capacity, room, heads, size), cached)
        values = carray(address(a[10]), (capacity, room, heads, size), cached)
        slots = carray(address(a[11]), (capacity, room), np.int64)
        seen = carray(address(a[12]), (capacity if a[12] else 0, room), np.bool_)
        mixed = carray(address(a[13]), (rows, heads, size), numbers)
        positions = carray(address(a[14]), (capacity if a[14] else 0, room), np.int64)
        turn = carray(address(a[15]), (a[16], a[17], size, size), np.float32)
        bias = carray(address(a[18]), (heads if a[18] else 0, a[19]), np.float32)
        places = carray(address(a[20]), (rows if a[20] else 0,), np.int64)
        queries, out = np.empty((heads, size), np.float32), np.empty((heads, size), np.float32)
        vector, turned = np.empty(size, np.float32), np.empty(size, np.float32)
        scores = np.empty((heads, length), np.float32)
        while True:
            row = next_block(a)
            if row >= a[1]:
                break
            place = places[row] if len(places) > 0 else 0
            for head in range(heads):
                new, key = projected[row], keys[length - 1, row, head]
                value, query = values[length - 1, row, head], queries[head]
                for j in range(size):
                    query[j] = widen(new[0, head, j])
                    vector[j] = widen(new[1, head, j])
                    store(value, j, widen(new[2, head, j]))
                if len(turn) > 0:
                    matrix = turn[place, min(head, turn.shape[1] - 1)]
                    turn_vector(vector, matrix, turned)
                    vector[:] = turned
                    turn_vector(query, matrix, turned)
                    query[:] = turned
                for j in range(size):
                    store(key, j, vector[j])
            attend_heads(
                queries, keys, values, slots, seen, positions, bias, place, row, 0, scores, out
            )
            for head in range(heads):
                for j in range(size):
                    store(mixed[row, head], j, out[head, j])

    return entry


@functools.cache
def _attention_kernel(numbers: torch.dtype, cached: torch.dtype) -> Kernel:
    return Kernel(_attention_entry(MEMORY[numbers], MEMORY[cached]))


def attend(
    projected: Tensor, layer: int, layout: Layout, encoding: Encoding = NO_ENCODING
) -> Tensor:
    """Store the newest keys and values of a layer, and mix those that each newest query sees.

    Args:
        projected: (texts, 3 * heads * head_dim), queries, keys and values of one token each.
        layer: its index.
        layout: where all tokens stand.
        encoding: turns queries and keys, biases scores.

    Returns:
        (texts, heads * head_dim), in the format of ``projected``.
    """
    *_, heads, size = layout.keys.shape
    rows = len(projected)
    mixed = projected.new_empty(rows, heads * size)
    _attention_kernel(projected.dtype, layout.keys.dtype)(
        rows,
        *(rows, heads, size, layout.length, *layout.slots.shape),
        *(projected.contiguous(), layout.keys[layer], layout.values[layer], layout.slots),
        *(_or_none(layout.real), mixed, *encoding_table(layout, encoding)),
    )
    return mixed


def _or_none(tensor: Tensor | None) -> Tensor | int:
    return 0 if tensor is None else tensor


def encoding_table(layout: Layout, encoding: Encoding) -> tuple[Tensor | int, ...]:
    """Return what a kernel's table holds of an encoding: seven numbers, 0 where there is nothing.

    Positions of the tokens held; turning matrices, for how many positions, for how many heads;
    biases, for how many distances; positions of the new tokens.
    """
    turn, bias, places = encoding
    return (
        _or_none(layout.positions),
        _or_none(turn),
        *((0, 0) if turn is None else turn.shape[:2]),
        _or_none(bias),
        0 if bias is None else bias.shape[1],
        _or_none(places),
    )


def prepare_attention(numbers: torch.dtype) -> None:
    """Compile the kernel of attention for a cache in one format."""
    _attention_kernel(numbers, numbers)
