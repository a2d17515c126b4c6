"""A head's best examples in texts: the pairs of tokens by which it does most.

By what it attends to, or by how much it writes for it: weight times the norm of the value through
W_O, since weight on a key whose value is nearly 0 does nothing (Kobayashi et al. 2020, "Attention
is Not Only a Weight").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from tinylm.errors import ConfigError, shown
from tinylm.interpretability.trace import refuse
from tinylm.interpretability.weights import head_weights
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating, record

Measure = Literal["weight", "written"]


@dataclass(frozen=True)
class HeadExample:
    """One token that a head looks at from another."""

    text: int
    """Which text, from 0."""
    query: int
    """Position, from 0."""
    key: int
    """Position, from 0."""
    weight: float
    """Attention."""
    written: float
    """Norm of what it adds to the stream for that key."""


@torch.no_grad()
def best_examples(
    model: GenerativeModel,
    texts: Sequence[Sequence[int]],
    layer: int,
    head: int,
    count: int = 10,
    by: Measure = "weight",
    progress: Callable[[float], None] = lambda done: None,
) -> list[HeadExample]:
    """Return the examples in which a head attends or writes most, the first token left out.

    Of each pair of types (query's and key's) only the best example is taken.

    Args:
        model: any device and precision.
        texts: token ids of each, ``<sos>`` first.
        layer: from 0.
        head: from 0.
        count: how many at most.
        by: what is most: ``weight``, or ``written``.
        progress: called with the number of texts that are done.

    Raises:
        GenerationError: if a text cannot be read.
        ConfigError: if there is no such layer or head, or ``by`` is none of the two.
    """
    if by not in get_args(Measure):
        raise ConfigError(f"examples are chosen by weight or written, not by {shown(by)}")
    refuse(model, texts)
    heads = head_weights(model, layer)
    if not 0 <= head < len(heads):
        raise ConfigError(f"there is no head {head}: a layer has {len(heads)}, from 0")
    names = [f"layers.{layer}.attention.{part}" for part in ("pattern", "value")]
    best: dict[tuple[int, int], HeadExample] = {}
    device = model.embedding.weight.device
    with evaluating(model):
        for number, text in enumerate(texts):
            _, kept = record(model, names, torch.tensor([list(text)], device=device))
            pattern, value = (kept[name][0, head].double().cpu() for name in names)
            sizes = (value @ heads[head].output.double().cpu()).norm(dim=-1)  # (keys,)
            ranked = (pattern if by == "weight" else pattern * sizes).clone()  # (seq, seq)
            ranked[:, 0] = 0
            for query, key in _first_of_each_pair(text, ranked, count):
                weight = float(pattern[query, key])
                example = HeadExample(number, query, key, weight, weight * float(sizes[key]))
                pair = (text[query], text[key])
                if pair not in best or getattr(example, by) > getattr(best[pair], by):
                    best[pair] = example
            best = dict(sorted(best.items(), key=lambda item: -getattr(item[1], by))[:count])
            progress(number + 1)
    return list(best.values())


def _first_of_each_pair(
    text: Sequence[int], ranked: Tensor, count: int
) -> Iterator[tuple[int, int]]:
    """Yield query and key of the largest entries above 0, one for each pair of types."""
    values, places = ranked.flatten().sort(descending=True, stable=True)
    seen: set[tuple[int, int]] = set()
    for place in places[values > 0].tolist():
        query, key = divmod(place, len(text))
        pair = (text[query], text[key])
        if len(seen) == count:
            return
        if pair not in seen:
            seen.add(pair)
            yield query, key
