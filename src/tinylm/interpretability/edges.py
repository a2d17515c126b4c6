"""The model as a graph: what each part writes goes to each later part along an edge of its own.

Senders are the embedding (with positions), every head, every feed-forward part. Receivers are the
queries, keys and values of every head, every feed-forward part, and the logits. A receiver reads a
stream of its own: that which its senders would have made, norms included, so that a message can be
changed on one edge and on no other. Along an edge of weight w goes ``corrupted + w * (own -
corrupted)``: at 1 what the sender computes in this run, at 0 what it computed in the corrupted one.
With all weights 1 the run is the model's, pre-norm or post-norm; with all 0 it is the corrupted
run's.

The gradient with respect to the weights is edge attribution patching: the first-order estimate of
what each edge carries, of all edges at once (Syed, Rager and Conmy 2024). Its mean over weights
between 0 and 1 holds where the estimate at 1 alone does not, as when a softmax is saturated (Hanna,
Pezzelle and Belinkov 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from tinylm.errors import ConfigError
from tinylm.interpretability.trace import Trace
from tinylm.interpretability.weights import affine, head_weights, maps_of
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating

KINDS = ("query", "key", "value")
EMBEDDING, LOGITS = "embedding", "logits"

Edge = tuple[str, str]
"""Sender and receiver."""


@dataclass(frozen=True)
class Graph:
    """The senders and receivers of a decoder, each in the order in which they compute."""

    num_layers: int
    num_heads: int

    @cached_property
    def senders(self) -> tuple[str, ...]:
        """``embedding``, ``layers.0.head.0``, …, ``layers.0.feed_forward``, …"""
        names = [EMBEDDING]
        for i in range(self.num_layers):
            names += [f"layers.{i}.head.{h}" for h in range(self.num_heads)]
            names.append(f"layers.{i}.feed_forward")
        return tuple(names)

    @cached_property
    def receivers(self) -> tuple[str, ...]:
        """``layers.0.head.0.query``, …, ``layers.0.feed_forward``, …, ``logits``."""
        names = []
        for i in range(self.num_layers):
            names += [
                f"layers.{i}.head.{h}.{kind}" for h in range(self.num_heads) for kind in KINDS
            ]
            names.append(f"layers.{i}.feed_forward")
        return (*names, LOGITS)

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """All of them, receiver by receiver."""
        return tuple(
            (sender, receiver)
            for row, receiver in enumerate(self.receivers)
            for sender in self.senders[: self.reaching[row]]
        )

    @cached_property
    def reaching(self) -> tuple[int, ...]:
        """How many of the senders come before each receiver."""
        counts = []
        for i in range(self.num_layers):
            before = 1 + i * (self.num_heads + 1)
            counts += [before] * (3 * self.num_heads) + [before + self.num_heads]
        return (*counts, len(self.senders))

    def weights(self, edges: Iterable[Edge]) -> Tensor:
        """Return the weights of a subgraph, (receivers, senders): 1 on its edges, else 0."""
        result = torch.zeros(len(self.receivers), len(self.senders))
        for sender, receiver in edges:
            result[self.receivers.index(receiver), self.senders.index(sender)] = 1
        return result

    def by_edge(self, values: Tensor) -> Tensor:
        """Return (…, edges) of (…, receivers, senders)."""
        rows = [self.receivers.index(receiver) for _, receiver in self.edges]
        columns = [self.senders.index(sender) for sender, _ in self.edges]
        return values[..., rows, columns]

    def connected(self, edges: Iterable[Edge]) -> tuple[Edge, ...]:
        """Return the edges on a path from the embedding to the logits, in order."""
        kept = set(edges)
        while True:
            reached = {EMBEDDING} | {_node(receiver) for _, receiver in kept}
            heard = {LOGITS} | {sender for sender, _ in kept}
            rest = {
                (sender, receiver)
                for sender, receiver in kept
                if sender in reached and (receiver == LOGITS or _node(receiver) in heard)
            }
            if rest == kept:
                return tuple(edge for edge in self.edges if edge in kept)
            kept = rest


def _node(receiver: str) -> str:
    """Return the sender that a receiver is a part of; the logits are none."""
    head, _, kind = receiver.rpartition(".")
    return head if kind in KINDS else receiver


def graph_of(model: GenerativeModel) -> Graph:
    """Return the graph of a decoder."""
    return Graph(model.config.num_layers, model.config.num_heads)


class EdgeRuns:
    """Runs of texts in which each edge carries a mixture of the own and a corrupted message."""

    def __init__(self, clean: Trace, corrupted: Trace) -> None:
        """Take two traces of all activations of texts of one length, without padding.

        Raises:
            ConfigError: if the texts differ in length or are padded, or an adapter is inside the
                attention.
        """
        if clean.ids.shape != corrupted.ids.shape or not bool((clean.real & corrupted.real).all()):
            raise ConfigError("clean and corrupted texts must all have the same number of tokens")
        self.model: Any = clean.model
        self.graph = graph_of(clean.model)
        layers = range(self.graph.num_layers)
        self._heads = [_Heads(clean.model, i) for i in layers]
        self._positions = torch.arange(clean.ids.shape[1], device=clean.ids.device)[None]
        self._own = clean["layers.0.input"]
        self._corrupted = [corrupted["layers.0.input"]]
        for i in layers:
            self._corrupted += list(corrupted.head_outputs(i).unbind(1))
            self._corrupted.append(corrupted[f"layers.{i}.feed_forward.output"])

    def logits(self, weights: Tensor) -> Tensor:
        """Return the logits after the last token, (batch, vocab).

        Args:
            weights: of the edges, (receivers, senders); what is no edge is not read.
        """
        graph, weights = self.graph, weights.to(self._own)
        heads = graph.num_heads
        own = [self._own]
        row = 0
        with evaluating(self.model):
            for i, layer in enumerate(self.model.layers):
                # (heads * 3, batch, seq, hidden): a stream for each
                streams = self._streams(own, weights[row : row + 3 * heads])
                own += self._attend(i, _normed(layer, layer.attention_norm, streams))
                row += 3 * heads
                (stream,) = self._streams(own, weights[row : row + 1])
                own.append(layer.feed_forward(_normed(layer, layer.feed_forward_norm, stream)))
                row += 1
            (stream,) = self._streams(own, weights[row:])
            logits: Tensor = self.model.unembed(self.model.final_norm(stream)[:, -1])
            return logits

    def _streams(self, own: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Return the stream that each receiver reads, (receivers, batch, seq, hidden).

        Args:
            own: what the senders before them computed.
            weights: of their edges, (receivers, senders).
        """

        def message(sender: int) -> Tensor:
            corrupted = self._corrupted[sender]
            return corrupted + weights[:, sender, None, None, None] * (own[sender] - corrupted)

        stream, sender = message(0), 1
        for i, layer in enumerate(self.model.layers):
            if sender == len(own):
                break
            for _ in range(self.graph.num_heads):
                stream = stream + message(sender)
                sender += 1
            stream = stream + self._heads[i].bias
            if not layer.norm_first:
                stream = layer.attention_norm(stream)
            if sender == len(own):
                break
            stream = stream + message(sender)
            sender += 1
            if not layer.norm_first:
                stream = layer.feed_forward_norm(stream)
        return stream

    def _attend(self, layer: int, x: Tensor) -> list[Tensor]:
        """Return what each head writes, (batch, seq, hidden), of its three streams."""
        own, encoding, places = self._heads[layer], self.model.positions, self._positions
        query, key, value = own.project(x)  # (batch, heads, seq, head_dim) each
        query, key = encoding.rotate(query, places), encoding.rotate(key, places)
        blocked = (places > places.mT)[None, None]
        attention = self.model.layers[layer].attention
        mixed = attention.mix(query, key, value, blocked, encoding.bias(places, places))
        written = mixed @ own.output  # (batch, heads, seq, hidden)
        return list(written.unbind(1))


def _normed(layer: Any, norm: nn.Module, stream: Tensor) -> Tensor:
    """Return what a part of a layer reads of the stream."""
    normalised: Tensor = norm(stream) if layer.norm_first else stream
    return normalised


class _Heads:
    """The weights of a layer's heads, stacked."""

    def __init__(self, model: GenerativeModel, layer: int) -> None:
        heads = head_weights(model, layer)
        kinds = [(h.query, h.key, h.value) for h in heads]
        biases = [(h.query_bias, h.key_bias, h.value_bias) for h in heads]
        # (heads, 3, hidden, head_dim), (heads, 3, head_dim), (heads, head_dim, hidden)
        self.weights = torch.stack([torch.stack(weights) for weights in kinds])
        self.biases = torch.stack([torch.stack(bias) for bias in biases])
        self.output = torch.stack([head.output for head in heads])
        config = model.config
        size = config.num_heads * config.resolved_head_dim
        self.bias = affine(maps_of(model, layer)[1], size)[1]

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of (heads * 3, batch, seq, hidden)."""
        heads, kinds = self.weights.shape[:2]
        streams = x.view(heads, kinds, *x.shape[1:])  # (heads, 3, batch, seq, hidden)
        projected = streams @ self.weights[:, :, None] + self.biases[:, :, None, None]
        query, key, value = projected.permute(1, 2, 0, 3, 4)
        return query, key, value


def edge_attribution(runs: EdgeRuns, measure: Callable[[Tensor], Tensor], steps: int = 1) -> Tensor:
    """Return the estimate of what each edge carries of what is measured, (edges,).

    Args:
        runs: of pairs of texts; the estimates of the pairs are added up.
        measure: of the logits after the last token, (batch, vocab); returns (batch,).
        steps: 1: the gradient in the clean run; more: its mean at so many weights between 0 and 1,
            the same for all edges (the middles of equal parts).
    """
    graph = runs.graph
    total = torch.zeros(len(graph.receivers), len(graph.senders))
    for step in range(steps):
        share = 1.0 if steps == 1 else (step + 0.5) / steps
        weights = torch.full_like(total, share).requires_grad_()
        with torch.enable_grad(), _frozen(runs.model):
            (gradient,) = torch.autograd.grad(measure(runs.logits(weights)).sum(), weights)
        total += gradient / steps
    return graph.by_edge(total)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Run the block with the parameters as constants: no gradient of them is wanted."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
