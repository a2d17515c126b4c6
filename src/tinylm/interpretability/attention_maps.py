"""What each attention head looks at: patterns, a role and a sentence from measured numbers.

What a head is called depends on the distance of its descriptors (``head_descriptors``) from those
of a head that spreads its weight evenly. Attention weights show where a head reads, not what the
model does with it (Jain and Wallace 2019, "Attention is not Explanation"): the sentences describe,
and prove no cause.

Layers and heads count from 0 in arrays, as in the names of activations (``layers.0``), and from 1
wherever a person reads them (``head_name``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.errors import GenerationError
from tinylm.interpretability.head_descriptors import (
    HeadDescriptors,
    check_length,
    describe_head,
    is_punctuation,
    uniform_baseline,
)
from tinylm.model.decoder import DecoderLM, evaluating, record

ROLES = (
    "same word",
    "punctuation",
    "previous word",
    "itself",
    "first token",
    "broad",
    "local",
    "mixed",
)
"""Every label that ``role`` gives; where two fit equally well, the earlier one wins."""

FOCUS_THRESHOLD = 0.25
"""Least part of the way from the uniform head's share to all of the weight that gives a role."""
FEWEST_QUERIES = 2
"""Fewest queries on which a share must rest to give a role: one may be chance."""
BROAD_ENTROPY = 0.9
"""Least normalised entropy of a broad head."""
LOCAL_DISTANCE = 0.6
"""Greatest mean distance of a local head, as a part of the uniform head's."""


@dataclass(frozen=True, eq=False)
class SentenceAttention:
    """One sentence's attention in every head, measured; made by ``analyse``."""

    words: tuple[str, ...]
    """The tokens as text, (seq)."""
    ids: tuple[int, ...]
    """Token ids, (seq)."""
    patterns: Tensor
    """(layers, heads, seq, seq), float32: weight of query (row) on key (column)."""
    baseline: HeadDescriptors
    """The uniform causal head on this sentence."""
    descriptors: tuple[tuple[HeadDescriptors, ...], ...]
    """By layer and head."""
    roles: tuple[tuple[str, ...], ...]
    """By layer and head: one of ``ROLES``."""
    interpretations: tuple[tuple[str, ...], ...]
    """By layer and head: one sentence."""


def head_name(layer: int, head: int) -> str:
    """Return the name of a head for a reader, who counts from 1: "layer 1, head 3" for (0, 2)."""
    return f"layer {layer + 1}, head {head + 1}"


def attention_patterns(model: DecoderLM, ids: Sequence[int]) -> Tensor:
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
    if not ids:
        raise GenerationError("there are no tokens: give a sentence of at least one word")
    vocab_size = model.config.resolved_vocab_size
    for i in ids:
        if not 0 <= i < vocab_size:
            raise GenerationError(f"token id {i} is outside the vocabulary of {vocab_size}")
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad():
        batch = torch.tensor([list(ids)], device=device)  # (1, seq)
        _, kept = record(model, ["layers.*.attention.pattern"], batch)
    layers = range(model.config.num_layers)
    patterns = [kept[f"layers.{i}.attention.pattern"][0] for i in layers]  # (heads, seq, seq)
    return torch.stack(patterns).float().cpu()  # (layers, heads, seq, seq)


def role(descriptors: HeadDescriptors, baseline: HeadDescriptors) -> str:
    """Return the label of a head, one of ``ROLES``, by the first rule that holds.

    The *focus* of a share is (share - uniform) / (1 - uniform): 0 for the uniform head, 1 where
    all of the weight goes there.

    1. The greatest focus among same word, punctuation, previous word, itself and first token is
       at least ``FOCUS_THRESHOLD`` (0.25): that role; a tie goes to the one named first. The
       shares on the same word and on punctuation take part only if they rest on at least
       ``FEWEST_QUERIES`` (2) queries.
    2. Normalised entropy is at least ``BROAD_ENTROPY`` (0.9): "broad".
    3. Mean distance is at most ``LOCAL_DISTANCE`` (0.6) of the uniform head's: "local".
    4. Otherwise "mixed".

    Args:
        descriptors: of the head.
        baseline: of the uniform head on the same sentence or sentences.
    """
    focused = _targets(descriptors, baseline)
    if focused[0].focus >= FOCUS_THRESHOLD:
        return focused[0].role
    if descriptors.entropy >= BROAD_ENTROPY:
        return "broad"
    if descriptors.mean_distance <= LOCAL_DISTANCE * baseline.mean_distance:
        return "local"
    return "mixed"


@dataclass(frozen=True)
class Link:
    """One word's weight on another."""

    query: str
    key: str
    weight: float


def strongest_link(pattern: Tensor, words: Sequence[str]) -> Link | None:
    """Return the greatest weight of a word on an earlier word that is not the first token.

    Queries 0 and 1 are left out: they have no choice but the first token and themselves.

    Args:
        pattern: one head, (seq, seq).
        words: the tokens as text, (seq).

    Returns:
        The link, or None where no query has such a word (fewer than 3 tokens).
    """
    weights = pattern.tril(-1)[2:, 1:]  # (seq - 2, seq - 1), the word itself and the future at 0
    if weights.numel() == 0:
        return None
    place = int(weights.argmax())
    query, key = place // weights.shape[1] + 2, place % weights.shape[1] + 1
    return Link(words[query], words[key], float(pattern[query, key]))


def strongest_link_of_all(
    sentences: Sequence[SentenceAttention], layer: int, head: int
) -> Link | None:
    """Return the strongest link of one head over several sentences."""
    links = [strongest_link(one.patterns[layer, head], one.words) for one in sentences]
    return max((link for link in links if link), key=lambda link: link.weight, default=None)


def interpret(
    descriptors: HeadDescriptors,
    baseline: HeadDescriptors,
    first_token: str = "<sos>",
    link: Link | None = None,
) -> str:
    """Return one sentence on what a head does, with the numbers that it rests on.

    The sentence follows ``role``. A head that gives at least half of its weight to its target
    does so "mostly", another "leans" to it; a second target is named too if its own focus
    reaches ``FOCUS_THRESHOLD``.

    Args:
        descriptors: of the head.
        baseline: of the uniform head on the same sentence or sentences.
        first_token: what token 0 is, as text.
        link: the head's strongest link, named where no single place explains the head.
    """
    label = role(descriptors, baseline)
    best, second = _targets(descriptors, baseline)[:2]
    spread = f"entropy {_percent(descriptors.entropy)} of the most possible"
    back = f"{_tokens(descriptors.mean_distance)} back on average"
    if label == "broad":
        return f"Spreads evenly over the past ({spread}; {back})."
    if label == "local":
        return (
            f"Stays near ({back}, a uniform head {_tokens(baseline.mean_distance)}) without "
            f"settling on one place ({spread})."
        )
    example = (
        spread
        if link is None
        else f"most of all “{link.query}” at “{link.key}” ({_percent(link.weight)})"
    )
    strongest = best.phrase.format(first=first_token)
    where = " where there is one" if best.conditional else ""
    if label == "mixed" and best.focus <= 0:
        return (
            f"Goes its own way: no more than a uniform head on any of the places measured, {back} "
            f"(a uniform head {_tokens(baseline.mean_distance)}), {example}."
        )
    if label == "mixed":
        return (
            f"Mixes several patterns: above a uniform head most on {strongest} "
            f"({_percent(best.share)}{where}, a uniform head gives {_percent(best.uniform)}), "
            f"{example}."
        )
    numbers = (
        f"({_percent(best.share)} of its weight{where}, a uniform head gives "
        f"{_percent(best.uniform)})"
    )
    mostly = best.share >= 0.5
    if label == "same word":
        text = ("Finds " if mostly else "Leans towards ") + f"{strongest} {numbers}"
    elif label == "first token":
        text = f"{'Rests' if mostly else 'Leans'} on {strongest} {numbers}"
    else:
        text = ("Looks mostly at " if mostly else "Leans towards ") + f"{strongest} {numbers}"
    if label == "first token":
        text += ", which often means that it has nothing to add here"
    if second.focus >= FOCUS_THRESHOLD:
        condition = " where there is one" if second.conditional else ""
        place = second.phrase.format(first=first_token)
        text += f", and looks at {place} too ({_percent(second.share)}{condition})"
    return text + "."


def analyse(model: DecoderLM, ids: Sequence[int], words: Sequence[str]) -> SentenceAttention:
    """Run a sentence and measure every head on it.

    Args:
        model: the model.
        ids: token ids, (seq), seq >= 2.
        words: the same tokens as text, (seq); a word without a letter or digit that is not
            ``<special>`` counts as punctuation.

    Raises:
        GenerationError: if the sentence has fewer than 2 tokens, is longer than the context, or
            holds an id outside the vocabulary.
        ValueError: if ids and words differ in number.
    """
    if len(ids) != len(words):
        raise ValueError(f"{len(ids)} ids and {len(words)} words are not the same sentence")
    check_length(len(ids))
    return measure(attention_patterns(model, ids), ids, words)


def measure(patterns: Tensor, ids: Sequence[int], words: Sequence[str]) -> SentenceAttention:
    """Measure every head of given patterns, (layers, heads, seq, seq); otherwise as ``analyse``."""
    marks = [is_punctuation(word) for word in words]
    baseline = uniform_baseline(ids, marks)
    descriptors = tuple(
        tuple(describe_head(pattern, ids, marks) for pattern in layer) for layer in patterns
    )
    return SentenceAttention(
        words=tuple(words),
        ids=tuple(ids),
        patterns=patterns,
        baseline=baseline,
        descriptors=descriptors,
        roles=tuple(tuple(role(d, baseline) for d in layer) for layer in descriptors),
        interpretations=tuple(
            tuple(
                interpret(d, baseline, words[0], strongest_link(pattern, words))
                for d, pattern in zip(row, layer, strict=True)
            )
            for row, layer in zip(descriptors, patterns, strict=True)
        ),
    )


@dataclass(frozen=True)
class _Target:
    """One place where a head may look."""

    role: str
    phrase: str
    share: float
    uniform: float
    conditional: bool = False

    @property
    def focus(self) -> float:
        return (self.share - self.uniform) / (1 - self.uniform)


def _targets(descriptors: HeadDescriptors, baseline: HeadDescriptors) -> list[_Target]:
    """Return the places that can give a role, greatest focus first, ties in the order of ROLES."""
    d, b = descriptors, baseline
    targets = []
    if d.same_word is not None and b.same_word is not None:
        phrase = "earlier occurrences of the same word"
        targets.append(_Target("same word", phrase, d.same_word, b.same_word, True))
    if d.punctuation is not None and b.punctuation is not None:
        phrase = "earlier punctuation"
        targets.append(_Target("punctuation", phrase, d.punctuation, b.punctuation, True))
    counts = {"same word": d.same_word_queries, "punctuation": d.punctuation_queries}
    targets = [target for target in targets if counts[target.role] >= FEWEST_QUERIES]
    targets += [
        _Target("previous word", "the previous word", d.previous, b.previous),
        _Target("itself", "the word itself", d.self_share, b.self_share),
        _Target("first token", "{first}", d.first, b.first),
    ]
    return sorted(targets, key=lambda target: -target.focus)  # stable: ties keep their order


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"  # a no-break space: no line begins with "%"


def _tokens(distance: float) -> str:
    return f"{distance:.1f} tokens"
