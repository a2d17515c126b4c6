"""How many parts of a layer go, and one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tinylm.compression.importance import gate_importance
from tinylm.compression.pruner import calibration_ids, refuse_share
from tinylm.compression.removal import Parts
from tinylm.config.pruning import PartsConfig
from tinylm.errors import CompressionError
from tinylm.model.base import GenerativeModel

Importance = Callable[[GenerativeModel, list[list[int]]], list[Tensor]]
"""Gets a model and the original numbers of the parts of each layer that it has left, and returns
what each of these is worth, a tensor a layer."""


def num_removed(share: float | None, settings: PartsConfig, total: int, what: str) -> int:
    """Return how many of the parts of a layer go.

    Args:
        share: of them; None: ``settings.count`` says it.
        settings: of the method.
        total: parts that there are.
        what: they are called.

    Raises:
        CompressionError: if neither or both say it, or none or all would go.
    """
    if (share is None) == (settings.count is None):
        raise CompressionError(f"say how many {what} go: give --share, or -o count, not both")
    if share is not None:
        refuse_share(share)
    count = settings.count if share is None else round(share * total)
    assert count is not None
    if not 0 < count < total:
        asked = f"count = {count}" if share is None else f"share = {share:g}"
        allowed = f"1 to {total - 1}" if total > 1 else "none can"
        raise CompressionError(
            f"{asked}: that is {count} of {total} {what}; at least one goes and one stays: "
            f"{allowed}"
        )
    return count


def in_rounds(count: int, rounds: int) -> list[int]:
    """Return how many go in each of some rounds, as evenly as can be, none of them empty."""
    rounds = min(rounds, count)
    return [count * (i + 1) // rounds - count * i // rounds for i in range(rounds)]


def drawn(settings: PartsConfig, layers: int, total: int) -> list[Tensor]:
    """Return an importance that is drawn by lot, (total,) a layer."""
    generator = torch.Generator().manual_seed(settings.seed)
    return [torch.rand(total, generator=generator) for _ in range(layers)]


def importance_of(
    model: GenerativeModel, settings: PartsConfig, total: int, ids: Tensor | None, kind: str
) -> Importance:
    """Return how the importance of the parts that are left is measured.

    Args:
        model: before anything is removed.
        settings: of the method.
        total: parts of a layer.
        ids: texts to calibrate by; None where lots decide.
        kind: name of the activation that they make, as ``importance.gate_importance`` takes it.

    Raises:
        CompressionError: if there are no texts.
    """
    if settings.importance == "random":
        lots = drawn(settings, model.config.num_layers, total)
        return lambda now, left: [lot[each] for lot, each in zip(lots, left, strict=True)]
    texts = calibration_ids(ids)
    return lambda now, left: gate_importance(now, texts, kind)


def remove_least(
    model: GenerativeModel,
    counts: Sequence[int],
    importance: Importance,
    keep: Callable[[GenerativeModel, Parts], GenerativeModel],
    total: int,
) -> tuple[GenerativeModel, list[list[int]], list[Tensor]]:
    """Remove the least important parts of each layer, round by round.

    Args:
        model: left alone.
        counts: parts of each layer that go, in each round.
        importance: of the parts that are left, of a model and their original numbers.
        keep: gives the model of some of its parts.
        total: parts of a layer.

    Returns:
        The smaller model, the original numbers of what went, a layer each, in the order in which it
        went, and the importance of all parts before the first round.
    """
    left = [list(range(total)) for _ in range(model.config.num_layers)]
    removed: list[list[int]] = [[] for _ in left]
    first: list[Tensor] = []
    for count in counts:
        values = importance(model, left)
        first = first or values
        stay = []
        for layer, value in enumerate(values):
            lowest = value.argsort(stable=True)[:count].tolist()
            removed[layer] += [left[layer][i] for i in lowest]
            stay.append([i for i in range(len(left[layer])) if i not in set(lowest)])
        model = keep(model, stay)
        left = [[part[i] for i in kept] for part, kept in zip(left, stay, strict=True)]
    return model, removed, first
