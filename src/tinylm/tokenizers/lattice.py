"""All ways to cut a text into pieces: the lattice of a unigram model.

A segmentation is a path from the text's first place to its last whose edges are pieces; its
log-probability is the sum of its pieces' (Kudo 2018, section 3). Here are the best one (Viterbi),
the n best, one drawn at random, and the sum over all of them (forward and backward), in float64.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple, Protocol


class Edge(NamedTuple):
    """A piece at a place of a text."""

    start: int
    end: int
    piece: int
    """Its number."""
    score: float
    """Its log-probability."""


@dataclass(frozen=True)
class Path:
    """A segmentation."""

    edges: tuple[Edge, ...]
    log_probability: float
    """Sum of the scores of its pieces."""


class Uniform(Protocol):
    """What random numbers come from, such as ``random.Random``."""

    def random(self) -> float:
        """Return a number from 0 to below 1."""
        ...


class Lattice:
    """The pieces of a text at all places where they stand.

    Args:
        length: of the text; places run from 0 to it.
        edges: the pieces; every place but the last has one that leads on, and they lead to it.
    """

    def __init__(self, length: int, edges: Sequence[Edge]) -> None:
        self.length = length
        self.edges = sorted(edges, key=itemgetter(0, 1))
        """By where they start, then by where they end."""

    def best(self) -> Path:
        """Return the most probable segmentation, in time linear in the number of edges.

        Of equal ones it is that whose last piece starts first, and so on from the end.
        """
        scores = [-math.inf] * (self.length + 1)
        scores[0] = 0.0
        last: list[Edge | None] = [None] * (self.length + 1)
        for edge in self.edges:
            score = scores[edge.start] + edge.score
            if last[edge.end] is None or score > scores[edge.end]:
                scores[edge.end], last[edge.end] = score, edge
        path = []
        place = self.length
        while (edge_there := last[place]) is not None:
            path.append(edge_there)
            place = edge_there.start
        return Path(tuple(reversed(path)), scores[self.length])

    def n_best(self, n: int) -> list[Path]:
        """Return the ``n`` most probable segmentations, or all if there are fewer, best first.

        The ``n`` best that end at a place are each one of the ``n`` best that end where their last
        piece starts, and that piece; so time and memory grow with ``n`` times the edges.
        """
        kept: list[list[tuple[float, Edge | None, int]]] = [[] for _ in range(self.length + 1)]
        kept[0] = [(0.0, None, 0)]
        for place, edges in enumerate(self._by_end()):
            if place:
                ways = [
                    (kept[edge.start][rank][0] + edge.score, edge, rank)
                    for edge in edges
                    for rank in range(len(kept[edge.start]))
                ]
                kept[place] = heapq.nlargest(n, ways, key=itemgetter(0))
        return [self._path(kept, rank) for rank in range(len(kept[self.length]))]

    def _path(self, kept: Sequence[Sequence[tuple[float, Edge | None, int]]], rank: int) -> Path:
        score = kept[self.length][rank][0]
        edges: list[Edge] = []
        place = self.length
        while place:
            _, edge, rank = kept[place][rank]
            assert edge is not None
            edges.append(edge)
            place = edge.start
        return Path(tuple(reversed(edges)), score)

    def forward(self, alpha: float = 1.0) -> list[float]:
        """Return the log of the sum over all ways from the start to each place, (length + 1,).

        Args:
            alpha: what log-probabilities are multiplied by.
        """
        sums = [0.0]
        for edges in self._by_end()[1:]:
            sums.append(_log_sum([sums[edge.start] + alpha * edge.score for edge in edges]))
        return sums

    def backward(self) -> list[float]:
        """Return the log of the sum over all ways from each place to the end, (length + 1,)."""
        after: list[list[Edge]] = [[] for _ in range(self.length + 1)]
        for edge in self.edges:
            after[edge.start].append(edge)
        sums = [0.0] * (self.length + 1)
        for place in range(self.length - 1, -1, -1):
            sums[place] = _log_sum([edge.score + sums[edge.end] for edge in after[place]])
        return sums

    def log_probability(self) -> float:
        """Return the log of the sum of the probabilities of all segmentations."""
        return self.forward()[-1]

    def posteriors(self) -> list[float]:
        """Return the probability of each edge given the text, in the order of ``edges``."""
        forward, backward = self.forward(), self.backward()
        return [
            math.exp(forward[edge.start] + edge.score + backward[edge.end] - forward[-1])
            for edge in self.edges
        ]

    def sample(self, random: Uniform, alpha: float = 1.0) -> Path:
        """Return a segmentation with probability proportional to its own to the power ``alpha``.

        Forward filtering, backward sampling: the last piece is drawn by the sum of all ways that
        end with it, then the one before (Kudo 2018, section 3.2, without a limit to the n best).

        Args:
            random: one number is taken a piece.
            alpha: 1 for the model's own distribution, 0 for all segmentations alike; the higher,
                the nearer to the best one.
        """
        sums = self.forward(alpha)
        before = self._by_end()
        path: list[Edge] = []
        place = self.length
        while place:
            edges = before[place]
            rest = random.random()
            for edge in edges:
                rest -= math.exp(sums[edge.start] + alpha * edge.score - sums[place])
                if rest < 0:
                    break
            path.append(edge)  # the last one, if rounding leaves a rest
            place = edge.start
        return Path(tuple(reversed(path)), sum(edge.score for edge in reversed(path)))

    def _by_end(self) -> list[list[Edge]]:
        before: list[list[Edge]] = [[] for _ in range(self.length + 1)]
        for edge in self.edges:
            before[edge.end].append(edge)
        return before


def _log_sum(values: Sequence[float]) -> float:
    if not values:
        return -math.inf
    most = max(values)
    if most == -math.inf:
        return most
    return most + math.log(sum(math.exp(value - most) for value in values))
