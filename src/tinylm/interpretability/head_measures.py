"""Where the weight of every attention head goes, measured over many texts.

A share says little by itself: the more keys of a kind a query sees, the more weight they get from
any head. So each share is compared with what would be **expected** of a head without that
preference:

- of a place that is a matter of position alone (the previous token, the first one, …): the share
  that the even head gives, which spreads its weight over all that it sees;
- of a place that is a matter of words (punctuation, the same word earlier, …): the share that these
  keys would get from a head that looks at the same *positions* as this one in the other texts, and
  knows nothing of words. That takes account of where the head looks and of how frequent such words
  are there.

Queries of the first few tokens of a text, which see few keys, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.errors import GenerationError
from tinylm.interpretability.attention_maps import attention_patterns
from tinylm.interpretability.places import PLACES, Place, Text, frequent_types
from tinylm.model.base import GenerativeModel

FIRST_QUERY = 4
"""The first query that is measured, counted from 0: it sees five tokens."""
_FAVOURITES = 3
_LEAST_EXCESS = 0.003
"""Part of a head's weight that a type must receive above what is expected to be a favourite."""
_LEAST_FACTOR = 1.5
"""And how many times as much as expected."""


@dataclass(frozen=True)
class Share:
    """Part of a head's weight that goes to a place, over the queries that have such a key."""

    share: float
    expected: float
    queries: int

    @property
    def focus(self) -> float:
        """The part of the way from what is expected to all of the weight; 0: as expected."""
        return (self.share - self.expected) / (1 - self.expected) if self.expected < 1 else 0.0


@dataclass(frozen=True)
class Favourite:
    """A type that receives much more weight than its positions explain."""

    token: int
    factor: float
    """Times as much as expected."""


@dataclass(frozen=True)
class HeadMeasure:
    """What one head does, over all texts."""

    layer: int
    head: int
    shares: Mapping[str, Share]
    """Name of a place -> the share of the head's weight; places that no query has are left out."""
    distance: float
    """Tokens back, mean over the weight that does not rest on the first token."""
    even_distance: float
    """The same of the even head."""
    entropy: float
    """Of the weights of a query, in parts of the most it could be; mean over queries, 0 to 1."""
    favourites: tuple[Favourite, ...]
    """The types most above what is expected, the greatest excess first."""


@torch.no_grad()
def measure_heads(
    model: GenerativeModel,
    texts: Sequence[Sequence[int]],
    punctuation: Tensor,
    progress: Callable[[float], None] = lambda done: None,
) -> list[HeadMeasure]:
    """Measure every head of a model.

    Args:
        model: any device and precision.
        texts: token ids of each text, ``<sos>`` first, none longer than the context.
        punctuation: (vocab), bool: which types are punctuation marks.
        progress: called with the number of texts that are done.

    Returns:
        The heads of the first layer, then those of the next.

    Raises:
        GenerationError: if fewer than two texts are long enough, or one is too long.
    """
    texts = [ids for ids in texts if len(ids) > FIRST_QUERY]
    if len(texts) < 2:
        raise GenerationError(
            f"heads are measured on two or more texts of more than {FIRST_QUERY} tokens; there "
            f"are {len(texts)}"
        )
    rarer = ~frequent_types(texts, len(punctuation))
    sums = _Sums(model, max(len(ids) for ids in texts))
    for count, ids in enumerate(texts, 1):
        tokens = torch.tensor(list(ids))
        text = Text(tokens, punctuation[tokens], rarer[tokens])
        sums.add(attention_patterns(model, ids).double(), text)
        progress(count)
    received, expected = sums.received, sums.expected_by_type(texts)
    layers, heads = sums.shape
    return [
        HeadMeasure(
            layer=layer,
            head=head,
            shares={
                place.name: share
                for place in PLACES
                if (share := sums.share(place, layer, head)) is not None
            },
            distance=float(sums.distance[layer, head] / sums.behind_first[layer, head]),
            even_distance=sums.even_distance / sums.even_behind_first,
            entropy=float(sums.entropy[layer, head]) / sums.queries,
            favourites=_favourites(received[layer, head], expected[layer, head], sums.queries),
        )
        for layer in range(layers)
        for head in range(heads)
    ]


class _Sums:
    """Sums over texts, from which shares and expectations follow at the end."""

    def __init__(self, model: GenerativeModel, longest: int) -> None:
        config = model.config
        self.shape = config.num_layers, config.num_heads
        wide = (*self.shape, longest, longest)
        self.patterns = torch.zeros(wide, dtype=torch.float64)  # of all texts, (.., query, key)
        self.texts = torch.zeros(longest, dtype=torch.float64)  # texts that have the query
        self.keys = {p.name: torch.zeros(longest, longest, dtype=torch.float64) for p in PLACES}
        self.given = {p.name: torch.zeros(*self.shape, longest).double() for p in PLACES}
        self.even = dict.fromkeys(self.keys, 0.0)
        self.having = dict.fromkeys(self.keys, 0)  # queries with such a key
        self.received = torch.zeros(*self.shape, config.resolved_vocab_size, dtype=torch.float64)
        self.entropy = torch.zeros(self.shape, dtype=torch.float64)
        self.distance = torch.zeros(self.shape, dtype=torch.float64)
        self.behind_first = torch.zeros(self.shape, dtype=torch.float64)
        self.even_distance = self.even_behind_first = 0.0
        self.queries = 0

    def add(self, patterns: Tensor, text: Text) -> None:
        """Count one text; patterns are (layers, heads, seq, seq), float64."""
        seq = len(text.ids)
        self.patterns[:, :, :seq, :seq] += patterns
        self.texts[:seq] += 1
        measured = torch.arange(seq) >= FIRST_QUERY  # (seq)
        seen = torch.arange(1, seq + 1, dtype=torch.float64)  # tokens that each query sees
        for place in PLACES:
            keys = place.keys(text) & measured[:, None]  # (seq, seq)
            self.keys[place.name][:seq, :seq] += keys
            self.given[place.name][:, :, :seq] += (patterns * keys).sum(3)
            self.even[place.name] += float((keys.sum(1) / seen).sum())
            self.having[place.name] += int(keys.any(1).sum())
        rows = patterns[:, :, FIRST_QUERY:]  # (layers, heads, queries, seq)
        self.received.index_add_(2, text.ids, rows.sum(2))
        bits = -torch.xlogy(rows, rows).sum(3) / torch.log(seen[FIRST_QUERY:])
        self.entropy += bits.sum(2)
        places = torch.arange(seq, dtype=torch.float64)
        back = (places[FIRST_QUERY:, None] - places[None, :]).clamp(min=0)[:, 1:]
        self.distance += (rows[..., 1:] * back).sum((2, 3))
        self.behind_first += rows[..., 1:].sum((2, 3))
        self.even_distance += float((back.sum(1) / seen[FIRST_QUERY:]).sum())
        self.even_behind_first += float((1 - 1 / seen[FIRST_QUERY:]).sum())
        self.queries += seq - FIRST_QUERY

    def share(self, place: Place, layer: int, head: int) -> Share | None:
        """Return a head's share of a place, or None if no query has such a key."""
        queries = self.having[place.name]
        if not queries:
            return None
        given = self.given[place.name][layer, head]  # (longest)
        expected = self.even[place.name]
        if place.of_words:
            # What the keys of a text would get from the mean pattern of all other texts: the sum
            # over texts of <(sum of patterns - its own), its keys> / (texts - 1), row by row.
            crossed = (self.patterns[layer, head] * self.keys[place.name]).sum(1)
            others = self.texts - 1
            rows = torch.where(others > 0, (crossed - given) / others.clamp(min=1), given)
            expected = float(rows.sum())
        return Share(float(given.sum()) / queries, expected / queries, queries)

    def expected_by_type(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Return the weight that each type would receive by its positions, (.., vocab)."""
        mean = self.patterns / self.texts[:, None]
        mean[:, :, :FIRST_QUERY] = 0
        up_to = mean.cumsum(2)  # (layers, heads, last query, key)
        expected = torch.zeros_like(self.received)
        for ids in texts:
            seq = len(ids)
            expected.index_add_(2, torch.tensor(list(ids)), up_to[:, :, seq - 1, :seq])
        return expected


def _favourites(received: Tensor, expected: Tensor, queries: int) -> tuple[Favourite, ...]:
    excess = (received - expected) / queries  # (vocab), parts of the head's weight
    order = excess.argsort(descending=True, stable=True)[:_FAVOURITES].tolist()
    kept = []
    for token in order:
        factor = float(received[token] / expected[token]) if expected[token] > 0 else math.inf
        if float(excess[token]) >= _LEAST_EXCESS and factor >= _LEAST_FACTOR:
            kept.append(Favourite(token, factor))
    return tuple(kept)
