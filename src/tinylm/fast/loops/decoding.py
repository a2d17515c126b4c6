"""Decoder layers for a few new tokens, from the first layer to the last at once.

With few rows the time of a step is that of reading the weights, and the operations between the
products would take longer to call than to compute. So one kernel computes all layers. Its work is a
row of items, stage after stage: the parts of a linear map, or a head's attention for a text. Each
thread takes the next item and begins it when the stages before are done; since items are taken in
order, whatever it waits for has been taken by another thread, so that no thread waits without end,
however many there are.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray
from torch import Tensor

from tinylm.fast.loops import matrices
from tinylm.fast.loops.launch import (
    MEMORY,
    Kernel,
    address,
    bits_of,
    fetch_add,
    function,
    next_block,
    real,
    store,
    threads_for,
    wait_for,
)
from tinylm.fast.loops.matrices import (
    PLACES,
    Matrix,
    linear_part,
    round_rows,
    space_for,
    start_of,
)
from tinylm.fast.loops.single_token import (
    ACTIVATIONS,
    NO_ENCODING,
    Encoding,
    Layout,
    activate,
    attend_heads,
    encoding_table,
    normalise,
    prepare_attention,
    turn_vector,
)

_STAGES = 5  # of a layer
_CLOSE = 64  # numbers that a loop takes at once
_PROJECT, _ATTEND, _OUTPUT, _EXPAND, _CONTRACT = range(_STAGES)

# Places of the entries in the table, and in a layer's row of the table of weights.
_NEXT, _TOTAL, _DONE, _PARTS, _ROWS, _HIDDEN, _HEADS, _HEAD_DIM, _FFN, _LAYERS = range(10)
_LENGTH, _CAPACITY, _ROOM, _PRE_NORM, _ACTIVATION, _EPS = range(10, 16)
_KEYS, _VALUES, _SLOTS, _REAL, _STREAMS, _BRANCHES = range(16, 22)
_PROJECTED, _MIXED, _INNER, _OUT, _WEIGHTS = range(22, 27)
_POSITIONS, _TURN, _TURN_PLACES, _TURN_HEADS, _BIAS, _DISTANCES, _PLACES = range(27, 34)
_LAST_NORM, _SPACE, _SUMS, _TOKENS, _AHEAD, _TABLE_SIZE = range(34, 40)
_PROJECTION, _OUTWARD, _EXPANSION, _CONTRACTION = range(0, 4 * PLACES, PLACES)
# Weight and bias of the norm as its stream enters, and in its middle.
_NORM, _INNER_NORM, _ROW_SIZE = (4 * PLACES + i for i in (0, 2, 4))


class LayerWeights(NamedTuple):
    """A decoder layer as the kernel reads it."""

    projection: Matrix
    output: Matrix
    expand: Matrix
    contract: Matrix
    attention_norm: tuple[Tensor, Tensor]
    """Weight and bias, float32."""
    feed_forward_norm: tuple[Tensor, Tensor]


@function
def _enter(stream, branch, kept, x, pre_norm, place, eps, writes):
    """Add a branch to the stream and norm it: ``x`` goes into the next part, ``kept`` past it."""
    rows, size = stream.shape
    total = np.empty(size, np.float32)
    for row in range(rows):
        for j in range(size):
            total[j] = stream[row, j] + branch[row, j]
        normalise(total, place, eps, x[row])
        if writes:
            past = total if pre_norm else x[row]
            for j in range(size):
                kept[row, j] = past[j]


def _entry(numbers, cached):
    def entry(a):
        parts, rows, hidden, heads, size = a[_PARTS], a[_ROWS], a[_HIDDEN], a[_HEADS], a[_HEAD_DIM]
        layers, length, capacity, room = a[_LAYERS], a[_LENGTH], a[_CAPACITY], a[_ROOM]
        new = a[_TOKENS]
        texts = rows // new
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
        placed = capacity if a[_POSITIONS] else 0
        positions = carray(address(a[_POSITIONS]), (placed, room), np.int64)
        turn_shape = (a[_TURN_PLACES], a[_TURN_HEADS], size, size)
        turn = carray(address(a[_TURN]), turn_shape, np.float32)
        bias = carray(address(a[_BIAS]), (heads if a[_BIAS] else 0, a[_DISTANCES]), np.float32)
        places = carray(address(a[_PLACES]), (rows if a[_PLACES] else 0,), np.int64)
        turned = np.empty(size, np.float32)
        # Where the numbers written begin a few places behind those read, the compiler's loop takes
        # them one by one and rounds otherwise. Room before ``x`` keeps other arrays away from it.
        before = _CLOSE // hidden + 1
        x = np.empty((before + rows, hidden), np.float32)[before:]
        scores = np.empty(length, np.float32)
        space = space_for(rows, a[_SPACE], a[_SUMS])
        stage, first, count, ready = 0, 0, parts, -1
        while True:
            item = next_block(a)
            if item >= a[_TOTAL]:
                break
            while item >= first + count:
                first += count
                stage += 1
                count = texts * heads if stage % _STAGES == _ATTEND else parts
            wait_for(a, _DONE, first)
            layer, kind, part = stage // _STAGES, stage % _STAGES, item - first
            place = held[layer]
            if layer == layers:
                past = pre_norm and not a[_LAST_NORM]
                _enter(streams[1], branches[1], out, x, past, place[_NORM:], eps, True)
            elif kind == _PROJECT:
                if ready != stage and layer > 0:
                    norm, kept = place[_NORM:], streams[0]
                    _enter(streams[1], branches[1], kept, x, pre_norm, norm, eps, part == 0)
                elif ready != stage:
                    for row in range(rows):
                        x[row, :] = streams[0, row]
                        if pre_norm:
                            normalise(streams[0, row], place[_NORM:], eps, x[row])
                if ready != stage:
                    round_rows(x, place[_PROJECTION:], space)
                ready = stage
                linear_part(x, place[_PROJECTION:], space, projected, part, parts, numbers)
            elif kind == _ATTEND:
                text, head = part // heads, part % heads
                start = head * size
                for token in range(new):
                    row, t = text * new + token, length - new + token
                    key, value = keys[layer, t, text, head], values[layer, t, text, head]
                    given = projected[row, width + start : width + start + size]
                    if len(turn) > 0:
                        matrix = turn[places[row], min(head, turn.shape[1] - 1)]
                        turn_vector(given, matrix, turned)
                        given = turned
                    for j in range(size):
                        store(key, j, given[j])
                        store(value, j, projected[row, 2 * width + start + j])
                for token in range(new):
                    row = text * new + token
                    query = projected[row, start : start + size]
                    at = places[row] if len(places) > 0 else 0
                    if len(turn) > 0:
                        matrix = turn[at, min(head, turn.shape[1] - 1)]
                        turn_vector(query, matrix, turned)
                        query = turned
                    # Each sees those up to itself, or all.
                    end = length if a[_AHEAD] else length - new + token + 1
                    attend_heads(
                        query.reshape(1, size),
                        keys[layer],
                        values[layer],
                        slots,
                        seen,
                        positions,
                        bias,
                        at,
                        text,
                        head,
                        scores[:end].reshape(1, end),
                        mixed[row, start : start + size].reshape(1, size),
                    )
            elif kind == _OUTPUT:
                if ready != stage:
                    round_rows(mixed, place[_OUTWARD:], space)
                ready = stage
                linear_part(mixed, place[_OUTWARD:], space, branches[0], part, parts, numbers)
            elif kind == _EXPAND:
                if ready != stage:
                    norm, kept = place[_INNER_NORM:], streams[1]
                    _enter(streams[0], branches[0], kept, x, pre_norm, norm, eps, part == 0)
                    round_rows(x, place[_EXPANSION:], space)
                ready = stage
                linear_part(x, place[_EXPANSION:], space, inner, part, parts, numbers)
                start, end = start_of(part, parts, ffn), start_of(part + 1, parts, ffn)
                for row in range(rows):
                    activate(inner[row, start:end], a[_ACTIVATION])
            else:
                if ready != stage:
                    round_rows(inner, place[_CONTRACTION:], space)
                ready = stage
                linear_part(inner, place[_CONTRACTION:], space, branches[1], part, parts, numbers)
            fetch_add(a, _DONE, 1)

    return entry


@functools.cache
def _layers_kernel(numbers: torch.dtype, cached: torch.dtype) -> Kernel:
    return Kernel(_entry(MEMORY[numbers], MEMORY[cached]))


def prepare(numbers: torch.dtype) -> None:
    """Compile the kernels for matrices and a cache in one format."""
    _layers_kernel(numbers, numbers)
    prepare_attention(numbers)
    matrices.prepare(numbers)


class Layers:
    """Decoder layers whose matrices the kernel reads."""

    def __init__(
        self,
        layers: Sequence[LayerWeights],
        num_heads: int,
        norm_eps: float,
        norm_first: bool,
        activation: str,
        most_rows: int,
        last_norm: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """Record the addresses of all weights.

        Args:
            layers: in order; all matrices in one number format.
            num_heads: of attention.
            norm_eps: of the norms.
            norm_first: whether the norms stand before the parts rather than after the sums.
            activation: a name in ``ACTIVATIONS``.
            most_rows: texts of a step beyond which running the layers in turn is quicker.
            last_norm: weight and bias of the norm after the last layer, where norms stand before.
        """
        self._layers, self._last_norm = list(layers), last_norm  # keeps the tensors alive
        self._matrices: list[Matrix] = [matrix for layer in layers for matrix in layer[:4]]
        first = self._layers[0]
        self._format = first.projection.weight.dtype
        self._hidden = len(first.output.bias)
        self._width = len(first.projection.bias) // 3
        self._ffn = len(first.expand.bias)
        self._heads = num_heads
        self.most_rows = most_rows
        """Texts of a step beyond which running the layers in turn is quicker."""
        self._has_last_norm = norm_first and last_norm is not None
        before = [first, *self._layers]  # the layer whose last norm makes a layer's input
        table: Any = (ctypes.c_int64 * (_ROW_SIZE * (len(self._layers) + 1)))()
        self._weights = table
        for i, last in enumerate(before):
            own = self._layers[min(i, len(self._layers) - 1)]
            norm, inner = last.feed_forward_norm, own.attention_norm
            if norm_first:
                norm, inner = own.attention_norm, own.feed_forward_norm
                if i == len(self._layers) and last_norm is not None:
                    norm = last_norm
            maps = own.projection, own.output, own.expand, own.contract
            table[i * _ROW_SIZE : (i + 1) * _ROW_SIZE] = [
                *(number for matrix in maps for number in matrix.place),
                *(part.data_ptr() for part in (*norm, *inner)),
            ]
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
            (_SPACE, max(matrix.room[0] for matrix in self._matrices)),
            (_SUMS, max(matrix.room[1] for matrix in self._matrices)),
        ):
            self._table[place] = number
        self._buffers: list[Tensor] = []
        self._entrance = np.empty((0, self._hidden), np.float32)

    def step(
        self,
        x: Tensor,
        layout: Layout,
        encoding: Encoding = NO_ENCODING,
        ahead: bool = False,
    ) -> Tensor:
        """Run the new tokens of each text, as many of each, through all layers.

        Args:
            x: (texts, tokens, hidden), float32: what goes into the first layer.
            layout: where the keys and values of all tokens stand.
            encoding: turns queries and keys, biases scores.
            ahead: whether each sees the new ones after it, too.

        Returns:
            As ``x``, what comes out of the last layer. Keys and values have been stored.
        """
        rows = x.flatten(0, 1)
        self.entrance(len(rows))[:] = rows.numpy()
        made = self.run(len(rows), layout, encoding, tokens=x.shape[1], ahead=ahead)
        return made.view(x.shape)

    def entrance(self, rows: int) -> NDArray[np.float32]:
        """Return where to write what goes into the first layer, (texts, hidden), for ``run``."""
        if len(self._entrance) != rows:
            self._buffers = [
                torch.empty(2, rows, self._hidden),
                torch.empty(2, rows, self._hidden),
                torch.empty(rows, 3 * self._width),
                torch.empty(rows, self._width),
                torch.empty(rows, self._ffn),
            ]
            self._table[_STREAMS : _INNER + 1] = [buffer.data_ptr() for buffer in self._buffers]
            self._entrance = self._buffers[0][0].numpy()
        return self._entrance

    def run(
        self,
        rows: int,
        layout: Layout,
        encoding: Encoding,
        last_norm: bool = False,
        tokens: int = 1,
        ahead: bool = False,
    ) -> Tensor:
        """Run what was written into ``entrance``; the rest as of ``step``.

        Args:
            rows: new tokens of all texts, text after text.
            layout: as of ``step``.
            encoding: as of ``step``.
            last_norm: whether to norm what comes out of the last layer, if there is a norm for it.
            tokens: of a text.
            ahead: as of ``step``.
        """
        slots, table = layout.slots, self._table
        out = torch.empty(rows, self._hidden)
        threads = threads_for(sum(matrix.nanoseconds(rows) for matrix in self._matrices))
        parts = 4 * threads
        table[_NEXT], table[_DONE], table[_PARTS], table[_ROWS] = 0, 0, parts, rows
        table[_TOTAL] = len(self._layers) * (4 * parts + rows // tokens * self._heads) + 1
        table[_TOKENS], table[_AHEAD] = tokens, int(ahead)
        table[_LENGTH], table[_CAPACITY], table[_ROOM] = layout.length, *slots.shape
        table[_KEYS], table[_VALUES] = layout.keys.data_ptr(), layout.values.data_ptr()
        table[_SLOTS] = slots.data_ptr()
        table[_REAL] = 0 if layout.real is None else layout.real.data_ptr()
        table[_POSITIONS : _PLACES + 1] = [
            held.data_ptr() if isinstance(held, Tensor) else held
            for held in encoding_table(layout, encoding)
        ]
        table[_OUT], table[_LAST_NORM] = out.data_ptr(), last_norm and self._has_last_norm
        _layers_kernel(self._format, layout.keys.dtype).run(table, threads)
        return out
