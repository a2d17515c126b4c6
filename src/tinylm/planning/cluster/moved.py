"""Bytes that a layer's operations other than products read and write: what memory's rate bounds.

Counted by operation, each read or written once, ``e`` bytes a number, a mask one byte; h is the
hidden size, f the inner width, a heads, s places, k experts of a token, for each place of a text:

=====================  ================================  ================================
                       forward                           backward
=====================  ================================  ================================
both norms             2 (read, write) h e               2 (input, gradient, write) h e
residual sums          2 (two reads, write) h e          one sum: 3 h e
with dropout           2 masks h                         2 (read, mask, write) h
activation             (read, write) f e                 (input, gradient, write) f e
gated activation       (two reads, write) f e            (three reads, two writes) f e
sorting by experts     2 (read, write) k h e             the same
softmax, where kept    (read, write) a s e               (pattern, gradient, write) a s e
with dropout           (read, mask, write) a s           (read, mask, write) a s
=====================  ================================  ================================

Products read and write too, but beside their arithmetic. Blockwise attention keeps no scores and
moves none.
"""

from __future__ import annotations

from tinylm.planning.cluster.layout import Layout
from tinylm.planning.cluster.shapes import Shape


def moved_bytes(shape: Shape, layout: Layout, backward: bool) -> float:
    """Return what a card moves for each of its places in a pass through a layer.

    Norms, residual sums and their dropout are shared among the cards of a tensor by sequence
    parallelism alone, the rest always.
    """
    number, mask = layout.number_bytes, 1
    dropped = shape.dropout
    split: float
    if backward:
        whole = shape.hidden * (9 * number + dropped * 2 * (2 * number + mask))
        split = shape.active * shape.ffn * (5 if shape.gated else 3) * number
    else:
        whole = shape.hidden * (10 * number + dropped * 2 * mask)
        split = shape.active * shape.ffn * (3 if shape.gated else 2) * number
    if shape.experts > 1:
        whole += 4 * shape.active * shape.hidden * number
    if not layout.flash:
        split += score_bytes(shape, layout, backward)
    return whole / (layout.tensor if layout.sequence else 1) + split / layout.tensor


def score_bytes(shape: Shape, layout: Layout, backward: bool) -> float:
    """Return what the scores of a place take, all heads together, where they are kept."""
    number, mask = layout.number_bytes, 1
    softmax = (3 if backward else 2) * number
    return shape.heads * shape.context * (softmax + shape.dropout * (2 * number + mask))
