"""The transpose of a matrix, in one piece: square by square, so that all of each cache line read
or written is used while it is there, and by all threads, where torch's copy is made by one.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import carray
from torch import Tensor

from tinylm.fast.loops.launch import Kernel, address, blocks_of, next_block

_SIDE = 64
"""Rows and columns of a square."""


def _entry(a):
    rows, columns = a[2], a[3]
    before = carray(address(a[4]), (rows, columns), np.float32)
    after = carray(address(a[5]), (columns, rows), np.float32)
    # Its rows are no power of 2 apart, as a matrix's often are, which would evict one another.
    square = np.empty((_SIDE, _SIDE + 1), np.float32)
    down = (rows + _SIDE - 1) // _SIDE
    while True:
        block = next_block(a)
        if block >= a[1]:
            break
        top, left = block % down * _SIDE, block // down * _SIDE
        height, width = min(_SIDE, rows - top), min(_SIDE, columns - left)
        for i in range(height):
            given, row = before[top + i, left : left + width], square[i]
            for j in range(width):
                row[j] = given[j]
        for j in range(width):
            row = after[left + j, top : top + height]
            for i in range(height):
                row[i] = square[i, j]


_RUN = Kernel(_entry)


def transposed(matrix: Tensor) -> Tensor:
    """Return a float32 matrix, (rows, columns), as (columns, rows) in one piece."""
    rows, columns = matrix.shape
    out = torch.empty(columns, rows)
    squares = blocks_of(_SIDE, rows) * blocks_of(_SIDE, columns)
    _RUN(squares, rows, columns, matrix.contiguous(), out)
    return out
