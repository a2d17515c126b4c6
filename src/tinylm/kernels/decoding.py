"""Decoder layers for one new token of a few texts, from the first layer to the last at once.

With few rows a step is the reading of the weights, and everything between the products would cost
more time in being called than in being computed. So one kernel computes all layers. Its work is a
row of items, stage after stage: the parts of a linear map, or a head's attention for a text. Each
thread takes the next item and begins it when the stages before are done; since items are taken in
order, whatever it waits for is in another thread's hands, and however many threads there are, none
waits for ever.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import carray
from torch import Tensor

from tinylm.kernels.launch import (
    Kernel,
    address,
    bits_of,
    exp,
    fetch_add,
    function,
    inline,
    largest_of,
    next_block,
    real,
    store,
    wait_for,
    widen,
)

ACTIVATIONS = ("relu", "gelu", "gelu_tanh")
"""Names of the functions that the kernel has."""
_RELU, _GELU = 0, 1
_STAGES = 5  # of a layer
_PROJECT, _ATTEND, _OUTPUT, _EXPAND, _CONTRACT = range(_STAGES)
_UNSEEN = np.float32(-3e38)

# What stands where in the table, and in a layer's row of the table of weights.
_NEXT, _TOTAL, _DONE, _PARTS, _ROWS, _HIDDEN, _HEADS, _HEAD_DIM, _FFN, _LAYERS = range(10)
_LENGTH, _CAPACITY, _ROOM, _PRE_NORM, _ACTIVATION, _EPS = range(10, 16)
_KEYS, _VALUES, _SLOTS, _REAL, _STREAMS, _BRANCHES = range(16, 22)
_PROJECTED, _MIXED, _INNER, _OUT, _WEIGHTS = range(22, 27)
_TABLE_SIZE = 27
_PROJECTION, _OUTWARD, _EXPANSION, _CONTRACTION = 0, 3, 6, 9  # weight, scale, bias
_NORM, _INNER_NORM, _ROW_SIZE = 12, 14, 16  # weight, bias: as its stream enters, and in its middle


class Matrix(NamedTuple):
    """A linear map as the kernel reads it."""

    weight: Tensor
    """(out, in), float32, bfloat16 or int8."""
    scale: Tensor
    """(out,), float32: what a row of integers is multiplied by, 1 of other numbers."""
    bias: Tensor
    """(out,), float32."""


class LayerWeights(NamedTuple):
    """A decoder layer as the kernel reads it."""

    projection: Matrix
    output: Matrix
    expand: Matrix
    contract: Matrix
    attention_norm: tuple[Tensor, Tensor]
    """Weight and bias, float32."""
    feed_forward_norm: tuple[Tensor, Tensor]


@inline
def _erf(x):
    """Abramowitz and Stegun 1964, 7.1.26: within 1.5e-7."""
    size = abs(x)
    t = np.float32(1) / (np.float32(1) + np.float32(0.3275911) * size)
    y = np.float32(1.061405429) * t - np.float32(1.453152027)
    y = y * t + np.float32(1.421413741)
    y = y * t - np.float32(0.284496736)
    y = (y * t + np.float32(0.254829592)) * t
    y = np.float32(1) - y * exp(-size * size)
    return y if x > 0 else -y


@inline
def _tanh(x):
    power = exp(np.float32(-2) * abs(x))
    y = (np.float32(1) - power) / (np.float32(1) + power)
    return y if x > 0 else -y


@function
def _activate(row, activation):
    if activation == _RELU:
        for i in range(len(row)):
            row[i] = row[i] if row[i] > 0 else np.float32(0)
    elif activation == _GELU:
        for i in range(len(row)):
            row[i] *= np.float32(0.5) * (np.float32(1) + _erf(row[i] * np.float32(0.70710678)))
    else:
        for i in range(len(row)):
            x = row[i]
            inner = np.float32(0.79788456) * (x + np.float32(0.044715) * x * x * x)
            row[i] = np.float32(0.5) * x * (np.float32(1) + _tanh(inner))


@function
def _linear(x, place, out, part, parts, numbers):
    """Compute a part of the outputs of a linear map; ``place`` holds its three addresses."""
    outputs, inputs = out.shape[1], x.shape[1]
    weight = carray(address(place[0]), (outputs, inputs), numbers)
    scale = carray(address(place[1]), (outputs,), np.float32)
    bias = carray(address(place[2]), (outputs,), np.float32)
    for i in range(part * outputs // parts, (part + 1) * outputs // parts):
        held = weight[i]
        for row in range(len(x)):
            given, total = x[row], np.float32(0)
            for j in range(inputs):
                total += given[j] * widen(held[j])
            out[row, i] = total * scale[i] + bias[i]


@function
def _normalise(row, place, eps, out):
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
def _enter(stream, branch, kept, x, pre_norm, place, eps, writes):
    """Add a branch to the stream and norm it: ``x`` goes into the next part, ``kept`` past it."""
    rows, size = stream.shape
    total = np.empty(size, np.float32)
    for row in range(rows):
        for j in range(size):
            total[j] = stream[row, j] + branch[row, j]
        _normalise(total, place, eps, x[row])
        if writes:
            past = total if pre_norm else x[row]
            for j in range(size):
                kept[row, j] = past[j]


@function
def _attend(query, keys, values, slots, seen, row, head, scores, mixed):
    """Mix the values of one head for one text; what is not ``seen`` is padding."""
    length, size = len(scores), len(query)
    factor = np.float32(1) / np.sqrt(np.float32(size))
    for t in range(length):
        slot = slots[t, row]
        key, total = keys[t, slot, head], np.float32(0)
        for j in range(size):
            total += query[j] * widen(key[j])
        scores[t] = total * factor if len(seen) == 0 or seen[t, slot] else _UNSEEN
    most, total = largest_of(scores), np.float32(0)
    for t in range(length):
        scores[t] = exp(scores[t] - most)
        total += scores[t]
    for j in range(size):
        mixed[j] = 0
    for t in range(length):
        value, weight = values[t, slots[t, row], head], scores[t] / total
        for j in range(size):
            mixed[j] += weight * widen(value[j])


def _entry(numbers, cached):
    def entry(a):
        parts, rows, hidden, heads, size = a[_PARTS], a[_ROWS], a[_HIDDEN], a[_HEADS], a[_HEAD_DIM]
        layers, length, capacity, room = a[_LAYERS], a[_LENGTH], a[_CAPACITY], a[_ROOM]
        ffn, width, pre_norm, eps = a[_FFN], heads * size, a[_PRE_NORM], np.float32(real(a[_EPS]))
        shape = (layers, capacity, room, heads, size)
        keys = carray(address(a[_KEYS]), shape, cached)
        values = carray(address(a[_VALUES]), shape, cached)
        slots = carray(address(a[_SLOTS]), (capacity, room), np.int64)
        seen = carray(address(a[_REAL]), (capacity if a[_REAL] else 0, room), np.bool_)
        streams = carray(address(a[_STREAMS]), (2, rows, hidden), np.float32)
        branches = carray(address(a[_BRANCHES]), (2, rows, hidden), np.float32)
        projected = carray(address(a[_PROJECTED]), (rows, 3 * width), np.float32)
        mixed = carray(address(a[_MIXED]), (rows, width), np.float32)
        inner = carray(address(a[_INNER]), (rows, ffn), np.float32)
        out = carray(address(a[_OUT]), (rows, hidden), np.float32)
        held = carray(address(a[_WEIGHTS]), (layers + 1, _ROW_SIZE), np.int64)
        x, scores = np.empty((rows, hidden), np.float32), np.empty(length, np.float32)
        stage, first, count, ready = 0, 0, parts, -1
        while True:
            item = next_block(a)
            if item >= a[_TOTAL]:
                break
            while item >= first + count:
                first += count
                stage += 1
                count = rows * heads if stage % _STAGES == _ATTEND else parts
            wait_for(a, _DONE, first)
            layer, kind, part = stage // _STAGES, stage % _STAGES, item - first
            place = held[layer]
            if layer == layers:
                _enter(streams[1], branches[1], out, x, pre_norm, place[_NORM:], eps, True)
            elif kind == _PROJECT:
                if ready != stage and layer > 0:
                    norm, kept = place[_NORM:], streams[0]
                    _enter(streams[1], branches[1], kept, x, pre_norm, norm, eps, part == 0)
                elif ready != stage:
                    for row in range(rows):
                        x[row, :] = streams[0, row]
                        if pre_norm:
                            _normalise(streams[0, row], place[_NORM:], eps, x[row])
                ready = stage
                _linear(x, place[_PROJECTION:], projected, part, parts, numbers)
            elif kind == _ATTEND:
                row, head = part // heads, part % heads
                start = head * size
                key = keys[layer, length - 1, row, head]
                value = values[layer, length - 1, row, head]
                for j in range(size):
                    store(key, j, projected[row, width + start + j])
                    store(value, j, projected[row, 2 * width + start + j])
                query, to = projected[row, start : start + size], mixed[row, start : start + size]
                _attend(query, keys[layer], values[layer], slots, seen, row, head, scores, to)
            elif kind == _OUTPUT:
                _linear(mixed, place[_OUTWARD:], branches[0], part, parts, numbers)
            elif kind == _EXPAND:
                if ready != stage:
                    norm, kept = place[_INNER_NORM:], streams[1]
                    _enter(streams[0], branches[0], kept, x, pre_norm, norm, eps, part == 0)
                    ready = stage
                _linear(x, place[_EXPANSION:], inner, part, parts, numbers)
                for row in range(rows):
                    chosen = inner[row, part * ffn // parts : (part + 1) * ffn // parts]
                    _activate(chosen, a[_ACTIVATION])
            else:
                _linear(inner, place[_CONTRACTION:], branches[1], part, parts, numbers)
            fetch_add(a, _DONE, 1)

    return entry


def _attention_entry(numbers, cached):
    def entry(a):
        rows, heads, size, length, capacity, room = a[2], a[3], a[4], a[5], a[6], a[7]
        projected = carray(address(a[8]), (rows, 3, heads, size), numbers)
        keys = carray(address(a[9]), (capacity, room, heads, size), cached)
        values = carray(address(a[10]), (capacity, room, heads, size), cached)
        slots = carray(address(a[11]), (capacity, room), np.int64)
        seen = carray(address(a[12]), (capacity if a[12] else 0, room), np.bool_)
        mixed = carray(address(a[13]), (rows, heads, size), numbers)
        query, found = np.empty(size, np.float32), np.empty(size, np.float32)
        scores = np.empty(length, np.float32)
        while True:
            row = next_block(a)
            if row >= a[1]:
                break
            for head in range(heads):
                new, key = projected[row], keys[length - 1, row, head]
                value = values[length - 1, row, head]
                for j in range(size):
                    query[j] = widen(new[0, head, j])
                    store(key, j, widen(new[1, head, j]))
                    store(value, j, widen(new[2, head, j]))
                _attend(query, keys, values, slots, seen, row, head, scores, found)
                for j in range(size):
                    store(mixed[row, head], j, found[j])

    return entry


def _linear_entry(numbers):
    def entry(a):
        rows, inputs, outputs = a[2], a[3], a[4]
        x = carray(address(a[5]), (rows, inputs), np.float32)
        out = carray(address(a[6]), (rows, outputs), np.float32)
        place = carray(address(a[7]), (3,), np.int64)
        while True:
            part = next_block(a)
            if part >= a[1]:
                break
            _linear(x, place, out, part, a[1], numbers)

    return entry


_MEMORY = {torch.float32: np.float32, torch.bfloat16: np.uint16, torch.int8: np.int8}
"""Format of the array that a kernel sees."""


@functools.cache
def _layers_kernel(numbers: torch.dtype, cached: torch.dtype) -> Kernel:
    return Kernel(_entry(_MEMORY[numbers], _MEMORY[cached]))


@functools.cache
def _linear_kernel(numbers: torch.dtype) -> Kernel:
    return Kernel(_linear_entry(_MEMORY[numbers]))


@functools.cache
def _attention_kernel(numbers: torch.dtype, cached: torch.dtype) -> Kernel:
    return Kernel(_attention_entry(_MEMORY[numbers], _MEMORY[cached]))


def prepare(numbers: torch.dtype) -> None:
    """Compile the kernels for matrices and a cache in one format."""
    _layers_kernel(numbers, numbers)
    _linear_kernel(numbers)
    _attention_kernel(numbers, numbers)


def attend(
    projected: Tensor, layer: int, layout: tuple[Tensor, ...], length: int, padded: bool
) -> Tensor:
    """Store the newest keys and values of a layer, and mix those that each newest query sees.

    Args:
        projected: (texts, 3 * heads * head_dim), queries, keys and values of one token each.
        layer: its index.
        layout: keys, values, slots and what is real, as ``KVCache.layout`` gives them.
        length: tokens held, the new ones included.
        padded: whether some that are held are padding.

    Returns:
        (texts, heads * head_dim), in the format of ``projected``.
    """
    keys, values, slots, seen = layout
    *_, heads, size = keys.shape
    rows = len(projected)
    mixed = projected.new_empty(rows, heads * size)
    _attention_kernel(projected.dtype, keys.dtype)(
        rows,
        *(rows, heads, size, length, *slots.shape),
        *(projected.contiguous(), keys[layer], values[layer], slots),
        *(seen if padded else 0, mixed),
    )
    return mixed


def _addresses(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def linear(x: Tensor, matrix: Matrix) -> Tensor:
    """Return ``x @ weight.T + bias``, (rows, out), of a few rows, (rows, in), all in float32."""
    x = x.float().contiguous()
    (rows, inputs), outputs = x.shape, len(matrix.weight)
    out = torch.empty(rows, outputs)
    place = (ctypes.c_int64 * 3)(*_addresses(*matrix))
    parts = 8 * torch.get_num_threads()
    _linear_kernel(matrix.weight.dtype)(
        parts, rows, inputs, outputs, x, out, ctypes.addressof(place)
    )
    return out


class Layers:
    """Decoder layers whose matrices the kernel reads."""

    def __init__(
        self,
        layers: Sequence[LayerWeights],
        num_heads: int,
        norm_eps: float,
        norm_first: bool,
        activation: str,
    ) -> None:
        """Note where everything stands.

        Args:
            layers: in order; all matrices in one number format.
            num_heads: of attention.
            norm_eps: of the norms.
            norm_first: whether the norms stand before the parts rather than after the sums.
            activation: one of ``ACTIVATIONS``.
        """
        self._layers = list(layers)  # keeps the tensors alive
        first = self._layers[0]
        self._format = first.projection.weight.dtype
        self._hidden = first.projection.weight.shape[1]
        self._width = first.output.weight.shape[1]
        self._ffn = len(first.expand.weight)
        self._heads = num_heads
        before = [first, *self._layers]  # the layer whose last norm makes a layer's input
        table: Any = (ctypes.c_int64 * (_ROW_SIZE * (len(self._layers) + 1)))()
        self._weights = table
        for i, last in enumerate(before):
            own = self._layers[min(i, len(self._layers) - 1)]
            norm, inner = last.feed_forward_norm, own.attention_norm
            if norm_first:
                norm, inner = own.attention_norm, own.feed_forward_norm
            table[i * _ROW_SIZE : (i + 1) * _ROW_SIZE] = _addresses(
                *own.projection, *own.output, *own.expand, *own.contract, *norm, *inner
            )
        self._table: Any = (ctypes.c_int64 * _TABLE_SIZE)()
        for place, number in (
            (_HIDDEN, self._hidden),
            (_HEADS, num_heads),
            (_HEAD_DIM, self._width // num_heads),
            (_FFN, self._ffn),
            (_LAYERS, len(self._layers)),
            (_PRE_NORM, int(norm_first)),
            (_ACTIVATION, ACTIVATIONS.index(activation)),
            (_EPS, bits_of(norm_eps)),
            (_WEIGHTS, ctypes.addressof(self._weights)),
        ):
            self._table[place] = number
        self._buffers: list[Tensor] = []

    def step(self, x: Tensor, layout: tuple[Tensor, ...], length: int, padded: bool) -> Tensor:
        """Run one new token of each text through all layers.

        Args:
            x: (texts, hidden), float32: what goes into the first layer.
            layout: keys, values, slots and what is real, as ``KVCache.layout`` gives them.
            length: tokens held, the new ones included.
            padded: whether some that are held are padding.

        Returns:
            (texts, hidden), what comes out of the last layer. Keys and values have been stored.
        """
        keys, values, slots, seen = layout
        rows = len(x)
        table: Any = self._table
        if not self._buffers or self._buffers[0].shape[1] != rows:
            self._buffers = [
                torch.empty(2, rows, self._hidden),
                torch.empty(2, rows, self._hidden),
                torch.empty(rows, 3 * self._width),
                torch.empty(rows, self._width),
                torch.empty(rows, self._ffn),
            ]
            table[_STREAMS : _INNER + 1] = _addresses(*self._buffers)
        self._buffers[0][0] = x
        out = torch.empty(rows, self._hidden)
        threads = torch.get_num_threads()
        parts = 4 * threads
        table[_NEXT], table[_DONE], table[_PARTS], table[_ROWS] = 0, 0, parts, rows
        table[_TOTAL] = len(self._layers) * (4 * parts + rows * self._heads) + 1
        table[_LENGTH], table[_CAPACITY], table[_ROOM] = length, *slots.shape
        table[_KEYS : _REAL + 1] = _addresses(keys, values, slots, seen)
        if not padded:
            table[_REAL] = 0
        table[_OUT] = out.data_ptr()
        _layers_kernel(self._format, keys.dtype).run(table, threads)
        return out
