"""Narrower ranges of weights: what lies outside is cut, what lies inside is rounded more finely.

The range of each group is made smaller step by step, and the step is kept at which the outputs move
least. With the Gram matrix of the inputs that is AWQ's second search (Lin et al. 2024, as its
authors' code has it, from 1 to one half); without it, the weights' own squared error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinylm.numbers.integers import IntegerFormat

SHARES = tuple(1 - step / 20 for step in range(11))
"""Shares of the full range that are tried, the full one first, so that it wins where they tie."""


def clipped_constants(
    weight: Tensor, form: IntegerFormat, gram: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return scale and zero, as ``IntegerFormat.fit`` does, of the best range of each group.

    The groups of a row are taken one at a time, as if the others were exact.

    Args:
        weight: (out, in).
        form: the format.
        gram: ``X^T X`` of the inputs, times any number, (in, in); None: the unit matrix.

    Raises:
        ConfigError: if the format's groups do not divide a row.
    """
    groups = form.groups(weight.shape[1])
    grouped = weight.detach().double().reshape(len(weight), groups, -1)  # (out, groups, size)
    low, high = grouped.aminmax(dim=-1)
    if form.granularity == "tensor":
        low, high = low.amin()[None, None], high.amax()[None, None]
    blocks = None if gram is None else _diagonal_blocks(gram.double(), groups)
    scale, zero = form.fit(weight)
    least = torch.full_like(low, torch.inf)
    for share in SHARES:
        tried_scale, tried_zero = form.of_range(low * share, high * share)
        codes = form.encode(weight, tried_scale, tried_zero)
        moved = form.decode(codes, tried_scale, tried_zero).reshape(grouped.shape) - grouped
        toward = moved if blocks is None else torch.einsum("ogi,gij->ogj", moved, blocks)
        error = (toward * moved).sum(-1)  # (out, groups)
        if form.granularity == "tensor":
            error = error.sum()[None, None]
        better = error < least
        least = torch.where(better, error, least)
        scale = torch.where(better, tried_scale, scale)
        if zero is not None and tried_zero is not None:
            zero = torch.where(better, tried_zero, zero)
    return scale, zero


def _diagonal_blocks(gram: Tensor, groups: int) -> Tensor:
    """Return the part of each group with itself, (groups, size, size)."""
    size = len(gram) // groups
    return torch.stack([gram[i : i + size, i : i + size] for i in range(0, len(gram), size)])
