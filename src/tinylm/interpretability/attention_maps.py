"""The attention weights of every head on one text.

Attention weights show where a head reads, not what the model does with it (Jain and Wallace 2019,
"Attention is not Explanation"); how much the predictions depend on a head is measured in
``head_ablation``.

Layers and heads count from 0 in arrays, as in the names of activations (``layers.0``), and from 1
wherever a person reads them: head 2.3 is the third of the second layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.errors import GenerationError
from tinylm.interpretability.trace import trace
from tinylm.model.base import GenerativeModel


@dataclass(frozen=True, eq=False)
class SentenceAttention:
    """One sentence's attention in every head."""

    words: tuple[str, ...]
    """The tokens as text, (seq)."""
    ids: tuple[int, ...]
    """Token ids, (seq)."""
    patterns: Tensor
    """(layers, heads, seq, seq), float32: weight of query (row) on key (column)."""


def attention_patterns(model: GenerativeModel, ids: Sequence[int]) -> Tensor:
    """Run one sequence through the model and return every head's attention weights.

    The model runs in eval mode without gradients, and is left in the mode it was in.

    Args:
        model: any device and precision.
        ids: token ids, (seq), with ``<sos>`` first if the model was trained so.

    Returns:
        (layers, heads, seq, seq), float32 on the CPU; row i holds query i's weights, which sum to
        1 and are 0 beyond column i.

    Raises:
        GenerationError: if ids are empty, outside the vocabulary or longer than the context.
    """
    traced = trace(model, [ids], names=["layers.*.attention.pattern"])
    patterns = [traced.pattern(i)[0] for i in range(traced.num_layers)]  # (heads, seq, seq)
    return torch.stack(patterns).float().cpu()  # (layers, heads, seq, seq)


def analyse(model: GenerativeModel, ids: Sequence[int], words: Sequence[str]) -> SentenceAttention:
    """Return the attention of every head on a sentence.

    Args:
        model: the model.
        ids: token ids, (seq), seq >= 2.
        words: the same tokens as text, (seq).

    Raises:
        GenerationError: if the sentence has fewer than 2 tokens, is longer than the context, or
            holds an id outside the vocabulary.
        ValueError: if ids and words differ in number.
    """
    if len(ids) != len(words):
        raise ValueError(f"{len(ids)} ids and {len(words)} words are not the same sentence")
    if len(ids) < 2:
        raise GenerationError(
            f"a sentence of {len(ids)} token(s) leaves attention no choice: give at least one word "
            "after <sos>"
        )
    return SentenceAttention(tuple(words), tuple(ids), attention_patterns(model, ids))


@dataclass(frozen=True)
class Link:
    """One word's weight on an earlier one, in one head."""

    layer: int
    head: int
    query: int
    """Position of the query."""
    key: int
    """Position of the key."""
    weight: float


def strongest_link(sentence: SentenceAttention) -> Link | None:
    """Return the greatest weight of a token on one further back than its neighbour, in any head.

    The token itself, its neighbour before it and the first token are left out: what is greatest
    there is no link of words.

    Returns:
        The link, or None for fewer than 4 tokens.
    """
    patterns = sentence.patterns.tril(-2).clone()  # (layers, heads, seq, seq)
    patterns[..., 0] = 0
    if len(sentence.ids) < 4:
        return None
    _, heads, seq, _ = patterns.shape
    place = int(patterns.argmax())
    place, key = divmod(place, seq)
    place, query = divmod(place, seq)
    layer, head = divmod(place, heads)
    return Link(layer, head, query, key, float(patterns[layer, head, query, key]))
