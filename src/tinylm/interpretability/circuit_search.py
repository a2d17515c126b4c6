"""A circuit: the smallest subgraph of a model, found by its edges' scores, that does as the whole.

Outside the subgraph edges carry what they carried in the corrupted run (``edges``). A subgraph is
judged by what is measured, on a scale that is 0 in the corrupted run and 1 in the clean one:

- faithfulness: the subgraph's edges alone are clean; near 1 if it suffices;
- completeness: the subgraph's edges alone are corrupted; near 0 if nothing outside it can do the
  same (Wang et al. 2023, "Interpretability in the Wild", section 4).

Both are compared with random subgraphs of as many edges. The search takes the edges with the
greatest scores and keeps those on a path from the embedding to the logits; the fewest that reach
the faithfulness wanted are found among growing numbers of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.errors import ConfigError
from tinylm.interpretability.edges import Edge, EdgeRuns, edge_attribution
from tinylm.interpretability.pair_runs import LEAST_DIFFERENCE

_GROWTH = 1.25
"""Factor from one number of edges that is tried to the next."""


@dataclass(frozen=True)
class Judgement:
    """What a subgraph does."""

    edges: tuple[Edge, ...]
    faithfulness: float
    """What is measured with it alone; 0: corrupted, 1: clean."""
    completeness: float
    """The same of the model without it."""


@dataclass(frozen=True)
class Circuit:
    """A subgraph, and random ones of the same number of edges."""

    judgement: Judgement
    random: tuple[Judgement, ...]
    num_edges: int
    """Of the whole model."""
    curve: tuple[tuple[int, float], ...]
    """Number of edges and faithfulness of every subgraph that was tried."""
    reached: bool
    """Whether the faithfulness wanted was reached with fewer edges than all."""


Measure = Callable[[Tensor], Tensor]
"""Of the logits after the last token, (batch, vocab); returns (batch,)."""


class Scale:
    """What is measured, 0 in the corrupted runs and 1 in the clean ones."""

    def __init__(self, groups: Sequence[tuple[EdgeRuns, Measure]]) -> None:
        """Measure the mean over all texts in both.

        Args:
            groups: texts of one length each, of one model.

        Raises:
            ConfigError: if the two hardly differ.
        """
        self.groups = list(groups)
        self.graph = self.groups[0][0].graph
        every = torch.ones(len(self.graph.receivers), len(self.graph.senders))
        self.clean = self._measured(every)
        self.corrupted = self._measured(torch.zeros_like(every))
        if abs(self.clean - self.corrupted) < LEAST_DIFFERENCE:
            raise ConfigError(
                f"the clean and the corrupted texts differ by {self.clean - self.corrupted:.2g} in "
                "what is measured: take pairs that the model tells apart"
            )

    @torch.no_grad()
    def _measured(self, weights: Tensor) -> float:
        values = [measure(runs.logits(weights)) for runs, measure in self.groups]
        return float(torch.cat(values).mean())

    def scores(self, steps: int = 1) -> Tensor:
        """Return ``edge_attribution`` over all texts, (edges,)."""
        scores = [edge_attribution(runs, measure, steps) for runs, measure in self.groups]
        return torch.stack(scores).sum(0)

    def of(self, weights: Tensor) -> float:
        """Return where a run with these weights of the edges stands."""
        return (self._measured(weights) - self.corrupted) / (self.clean - self.corrupted)

    def judge(self, edges: Sequence[Edge]) -> Judgement:
        """Return what a subgraph does."""
        weights = self.graph.weights(edges)
        return Judgement(tuple(edges), self.of(weights), self.of(1 - weights))


def find_circuit(
    scale: Scale,
    scores: Tensor,
    faithfulness: float = 0.9,
    num_random: int = 20,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Circuit:
    """Return the fewest edges, by their scores, that reach a faithfulness.

    Args:
        scale: what is measured.
        scores: of each edge, (edges,); the sign says whether it works for what is measured.
        faithfulness: that is wanted, up to 1.
        num_random: random subgraphs to compare with.
        seed: of their edges.
        progress: called with the share that is done.
    """
    graph = scale.graph
    order = scores.argsort(descending=True, stable=True).tolist()
    sizes = _sizes(len(order))
    curve: list[tuple[int, float]] = []
    edges: tuple[Edge, ...] = graph.edges
    reached = False
    tried: dict[tuple[Edge, ...], float] = {}
    for number, size in enumerate(sizes):
        candidate = graph.connected(graph.edges[i] for i in order[:size])
        if candidate and candidate not in tried:
            tried[candidate] = scale.of(graph.weights(candidate))
            curve.append((len(candidate), tried[candidate]))
            if tried[candidate] >= faithfulness:
                edges, reached = candidate, len(candidate) < len(graph.edges)
                break
        progress((number + 1) / (len(sizes) + num_random))
    generator = torch.Generator().manual_seed(seed)
    random = []
    for number in range(num_random):
        chosen = torch.randperm(len(order), generator=generator)[: len(edges)].tolist()
        random.append(scale.judge([graph.edges[i] for i in sorted(chosen)]))
        progress((len(sizes) + number + 1) / (len(sizes) + num_random))
    return Circuit(scale.judge(edges), tuple(random), len(graph.edges), tuple(curve), reached)


def _sizes(most: int) -> list[int]:
    """Return growing numbers of edges up to all of them."""
    sizes: list[int] = []
    size = 1.0
    while size < most:
        if not sizes or int(size) > sizes[-1]:
            sizes.append(int(size))
        size = max(size * _GROWTH, size + 1)
    return [*sizes, most]
