"""Fastfood: a random projection of d numbers to D that is never written down as a matrix.

Le, Sarlós and Smola 2013, section 3: a block of n = 2^k >= d rows is ``H G P H B``, with signs B,
the Walsh-Hadamard transform H (entries +1 and -1), a permutation P and normal numbers G; blocks
are stacked until there are D rows. It costs O(D log n) time and O(D) memory in place of O(D d).
The paper's last factor, S, which gives every row the length of a normal vector, is left out as in
Li et al. 2018 (section S7): all rows have the same length here. G of a block is scaled to
``|G|^2 = n``, so that each column of a whole number of blocks has length 1: a step in d numbers
moves D numbers as far.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def hadamard(x: Tensor) -> Tensor:
    """Return the Walsh-Hadamard transform of the last dimension, whose size n is a power of two.

    ``H_1 = 1``, ``H_2n = [[H_n, H_n], [H_n, -H_n]]``, not normalised: ``H H = n``. O(n log n).
    """
    shape, half = x.shape, 1
    while half < shape[-1]:
        first, second = x.reshape(*shape[:-1], -1, 2, half).unbind(-2)
        x = torch.stack([first + second, first - second], -2)
        half *= 2
    return x.reshape(shape)


class Fastfood(nn.Module):
    """The map from ``inputs`` numbers to ``outputs``, a share of a projection to ``total``."""

    signs: Tensor
    order: Tensor
    normal: Tensor

    def __init__(self, inputs: int, outputs: int, seed: int, total: int | None = None) -> None:
        """Draw the projection from a seed; it is not part of the model's state.

        Args:
            inputs: d.
            outputs: rows of this share.
            seed: of a generator of its own on the CPU, so that it is the same everywhere.
            total: D, rows of all shares together, which the scale depends on; empty: ``outputs``.
        """
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.size = 1 << (inputs - 1).bit_length()  # n
        blocks = -(-outputs // self.size)
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(0, 2, (blocks, self.size), generator=generator) * 2.0 - 1
        order = torch.rand(blocks, self.size, generator=generator).argsort(-1)
        normal = torch.randn(blocks, self.size, generator=generator)
        normal *= math.sqrt(self.size) / normal.norm(dim=-1, keepdim=True)
        self.register_buffer("signs", signs, persistent=False)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("normal", normal, persistent=False)
        self.scale = 1 / math.sqrt((total or outputs) * self.size)

    def forward(self, z: Tensor) -> Tensor:
        """Project ``z``, (inputs,), to (outputs,)."""
        padded = nn.functional.pad(z, (0, self.size - self.inputs))
        mixed = hadamard(padded * self.signs.to(z.dtype)).gather(-1, self.order)
        rows = hadamard(mixed * self.normal.to(z.dtype)).flatten()[: self.outputs]
        return rows * self.scale
