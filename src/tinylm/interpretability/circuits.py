"""The circuits of a head over the vocabulary, and how much heads compose.

By its QK circuit, ``W_E W_Q W_K^T W_E^T``, a head scores each pair of words, query and key; by its
OV circuit, ``W_E W_V W_O W_U``, it adds to the logit of each word (column) where it attends to a
word (row). Both are the path that passes no other part: what the word's embedding gives by itself
(Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"). Positions are left out,
and so are biases and the factor ``1 / sqrt(head_dim)`` of the scores.

**Norms.** A norm subtracts the mean, multiplies by a scale and by its weight, and adds its bias.
With ``fold_norms`` mean and weight of every norm on the path are multiplied into the matrices. The
scale is left out: it is one positive number a token, so that it changes neither which words are
ahead in a row nor a score that is relative to norms. In a pre-norm model a path passes the norm in
front of the head, or of the unembedding. In a post-norm model it passes every norm from the part
that wrote to the one that reads.

**Composition.** A later head composes with an earlier one as far as it reads what that wrote, by
its queries, keys or values: ``|W_OV W| / (|W_OV| |W|)`` in Frobenius norms, W being the later
head's W_QK, its transpose or W_OV. Random matrices score ``1 / sqrt(hidden)``, whatever the rank,
and not 0: a score is to be read against the baseline that is measured here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from tinylm.errors import ConfigError, shown
from tinylm.interpretability.factored import Factored
from tinylm.interpretability.norm_paths import (
    norms_between,
    norms_in_front,
    norms_of_layer,
    through,
)
from tinylm.interpretability.weights import HeadWeights, affine, head_weights
from tinylm.model.base import GenerativeModel
from tinylm.model.layers import LayerNorm

Reading = Literal["query", "key", "value"]
"""What of the later head reads what the earlier one wrote: Q-, K- and V-composition."""
_RANDOM_PAIRS = 200
"""Pairs of random heads, at least, of which the baseline is the mean."""


@dataclass(frozen=True, eq=False)
class Composition:
    """How much every later head reads of every earlier one."""

    reading: Reading
    scores: Tensor
    """(layers, heads, layers, heads), float64: earlier layer and head, later layer and head; 0
    where the second is not later."""
    baseline: float
    """Mean score of random heads of the same shape, through the same norms."""
    spread: float
    """Standard deviation of the random heads' scores."""

    @property
    def excess(self) -> Tensor:
        """Scores less the baseline; 0 where the second head is not later."""
        return torch.where(_later(len(self.scores)), self.scores - self.baseline, 0.0)


@torch.no_grad()
def ov_circuit(model: GenerativeModel, layer: int, head: int, fold_norms: bool = True) -> Factored:
    """Return what a head adds to the logit of each word (column) where it reads one (row).

    Raises:
        ConfigError: if there is no such layer or head, or an adapter is in the way.
    """
    weights = _weights(model, layer, head)
    read, written = _embedded(model, layer, fold_norms), weights.output.double()
    if fold_norms:
        written = through(written, norms_between(model, layer, model.config.num_layers))
    unembedding, _ = affine(model.get_submodule("unembedding"), model.config.hidden_size)
    return Factored(read @ weights.value.double(), written @ unembedding.double())


@torch.no_grad()
def qk_circuit(model: GenerativeModel, layer: int, head: int, fold_norms: bool = True) -> Factored:
    """Return the score of each word as a key (column) for each word as a query (row).

    Raises:
        ConfigError: if there is no such layer or head, or an adapter is in the way.
    """
    weights = _weights(model, layer, head)
    read = _embedded(model, layer, fold_norms)
    return Factored(read @ weights.query.double(), (read @ weights.key.double()).mT)


def copying_score(circuit: Factored) -> float:
    """Return the sum of the eigenvalues over the sum of their absolute values, -1 to 1.

    1: a word that is read raises its own logit, and mixtures of words theirs; -1: it lowers them.
    0 also where the circuit is 0 to rounding.

    Args:
        circuit: the OV circuit of a head.
    """
    values = circuit.eigenvalues()
    size = values.abs().sum()
    factors = torch.linalg.matrix_norm(circuit.left) * torch.linalg.matrix_norm(circuit.right)
    if float(size) <= len(values) * torch.finfo(factors.dtype).eps * float(factors):
        return 0.0
    return float(values.real.sum() / size)


@torch.no_grad()
def composition(
    model: GenerativeModel, reading: Reading, fold_norms: bool = True, seed: int = 0
) -> Composition:
    """Return the composition scores of all pairs of heads, and those of random heads.

    Args:
        model: any device and precision; computed in float64 on the CPU.
        reading: query, key or value.
        fold_norms: whether the norms between the heads are part of the path.
        seed: of the random heads.

    Raises:
        ConfigError: if ``reading`` is none of them, or an adapter is in the way.
    """
    if reading not in get_args(Reading):
        raise ConfigError(
            f"heads compose by query, key or value, not by {shown(reading)}: give one of them"
        )
    layers = model.config.num_layers
    stacked = [_Stacked.of(head_weights(model, layer)) for layer in range(layers)]
    scores = _all_scores(model, stacked, reading, fold_norms)
    generator = torch.Generator().manual_seed(seed)
    drawn: list[Tensor] = []
    while layers > 1 and sum(map(len, drawn)) < _RANDOM_PAIRS:
        random = [weights.like(generator) for weights in stacked]
        made = _all_scores(model, random, reading, fold_norms)
        drawn.append(made[_later(layers).expand_as(made)])
    chance = torch.cat(drawn) if drawn else torch.zeros(2, dtype=torch.float64)
    return Composition(reading, scores, float(chance.mean()), float(chance.std()))


@dataclass(frozen=True, eq=False)
class _Stacked:
    """The weights of all heads of a layer, in float64."""

    query: Tensor  # (heads, hidden, head_dim)
    key: Tensor  # (heads, hidden, head_dim)
    value: Tensor  # (heads, hidden, head_dim)
    output: Tensor  # (heads, head_dim, hidden)

    @classmethod
    def of(cls, heads: Sequence[HeadWeights]) -> _Stacked:
        names = ("query", "key", "value", "output")
        return cls(
            *(torch.stack([getattr(head, name) for head in heads]).double().cpu() for name in names)
        )

    def like(self, generator: torch.Generator) -> _Stacked:
        """Return random weights of the same shapes."""
        made = (
            torch.randn(part.shape, generator=generator, dtype=torch.float64)
            for part in (self.query, self.key, self.value, self.output)
        )
        return _Stacked(*made)

    def read_by(self, reading: Reading, norms: Sequence[LayerNorm]) -> Factored:
        """Return the matrices by which the heads read, (heads, hidden, hidden) as factors."""
        query, key, value = (
            through(part.mT, norms, reading_side=True).mT
            for part in (self.query, self.key, self.value)
        )
        if reading == "query":
            return Factored(query, key.mT)
        return Factored(key, query.mT) if reading == "key" else Factored(value, self.output)


def _all_scores(
    model: GenerativeModel, stacked: Sequence[_Stacked], reading: Reading, fold_norms: bool
) -> Tensor:
    """Return the scores of all pairs, (layers, heads, layers, heads)."""
    layers, heads = len(stacked), stacked[0].query.shape[0]
    scores = torch.zeros(layers, heads, layers, heads, dtype=torch.float64)
    for earlier in range(layers):
        for later in range(earlier + 1, layers):
            front = {i: norms_in_front(model, i) if fold_norms else [] for i in (earlier, later)}
            wrote = stacked[earlier].read_by("value", front[earlier])
            if fold_norms:
                wrote = Factored(
                    wrote.left, through(wrote.right, norms_between(model, earlier, later))
                )
            read = stacked[later].read_by(reading, front[later])
            wrote = Factored(wrote.left[:, None], wrote.right[:, None])
            joined = Factored(wrote.left, wrote.right @ read.left @ read.right)
            scores[earlier, :, later] = joined.norm() / (wrote.norm() * read.norm())
    return scores


def _later(layers: int) -> Tensor:
    """Return whether a layer comes after another, (layers, 1, layers, 1), bool."""
    return torch.ones(layers, layers).triu(1).bool()[:, None, :, None]


def _weights(model: GenerativeModel, layer: int, head: int) -> HeadWeights:
    heads = head_weights(model, layer)
    if not 0 <= head < len(heads):
        raise ConfigError(f"there is no head {head}: a layer has {len(heads)}, from 0")
    return heads[head]


def _embedded(model: GenerativeModel, layer: int, fold_norms: bool) -> Tensor:
    """Return each word's embedding as the heads of a layer read it, (vocab, hidden), float64."""
    embedding: Tensor = model.embedding.weight.detach().double()
    embedding = embedding * float(getattr(model, "embedding_scale", 1.0))
    if not fold_norms:
        return embedding
    before = [norm for i in range(layer) for norm in norms_of_layer(model, i)]
    return through(embedding, [*before, *norms_in_front(model, layer)])
