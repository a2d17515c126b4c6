"""Which weights go, by their scores: exactly so many of each group, the lowest ones.

Scores that tie are told apart by their place, the first goes first: ``score <= threshold`` would
take too many of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tinylm.errors import CompressionError


def num_pruned(share: float, total: int) -> int:
    """Return how many of so many go: the nearest number, as in ``torch.nn.utils.prune``."""
    return round(share * total)


def kept_of(scores: Mapping[str, Tensor], share: float, scope: str) -> dict[str, Tensor]:
    """Return which numbers stay where a share of each group goes.

    Args:
        scores: path -> the higher the more it is worth, any shape.
        share: that goes.
        scope: ``map``, ``row`` (the last dimension) or ``global``: what a group is.

    Returns:
        Path -> bool, the shape of its scores.
    """
    if scope == "global":
        flat = torch.cat([each.flatten() for each in scores.values()])
        kept = _highest(flat[None], num_pruned(share, len(flat)))[0]
        parts = torch.split(kept, [each.numel() for each in scores.values()])
        return {path: part.view_as(scores[path]) for path, part in zip(scores, parts, strict=True)}
    grouped = {
        path: each.reshape(1, -1) if scope == "map" else each.reshape(-1, each.shape[-1])
        for path, each in scores.items()
    }
    return {
        path: _highest(each, num_pruned(share, each.shape[1])).view_as(scores[path])
        for path, each in grouped.items()
    }


def kept_by_pattern(scores: Mapping[str, Tensor], kept: int, of: int) -> dict[str, Tensor]:
    """Return which numbers stay where N of every M neighbours of a row do.

    Args:
        scores: path -> (..., in).
        kept: N.
        of: M.

    Raises:
        CompressionError: if M does not divide a row.
    """
    for path, each in scores.items():
        refuse_width(path, each.shape[-1], kept, of)
    return {
        path: _highest(each.reshape(-1, of), of - kept).view_as(each)
        for path, each in scores.items()
    }


def refuse_width(path: str, width: int, kept: int, of: int) -> None:
    """Refuse a row that groups do not divide; arguments as of ``kept_by_pattern``.

    Raises:
        CompressionError: naming the module.
    """
    if width % of:
        raise CompressionError(
            f"pattern {kept}:{of}: the rows of {path} have {width} numbers, which groups of {of} "
            "do not divide: leave it out of targets, or take another pattern"
        )


def _highest(scores: Tensor, pruned: int) -> Tensor:
    """Return where the scores of each group, (groups, size), are not among its lowest."""
    order = scores.argsort(dim=1, stable=True)
    kept = torch.ones_like(scores, dtype=torch.bool)
    return kept.scatter_(1, order[:, :pruned], False)
