"""The exact probability of a short text: summed over all ways to cut it into tokens.

A model over tokens gives a probability to a sequence of tokens. A text is cut by its tokenizer in
one way, the canonical one, and its usual score is that of this sequence. But other sequences spell
the same text, and the probability of the text is the sum over all of them (Cao and Rimell 2021;
Chirkova et al. 2023). What the usual score misses is

    log2(sum over all / canonical) >= 0   bits.

The sequences are the paths through the text's bytes along tokens. The model is no Markov chain, so
that paths which meet again cannot be joined: their number grows exponentially, and all of them must
be scored. They form a tree, of which each *prefix* is read once, with the decoding state of the
prefix that it goes on: so many single tokens are read as the tree has nodes. Prefixes with as many
tokens stand in one batch, and the tree is walked depth first, so that few states are held. The
nodes are counted before anything is read, and more than a limit is refused.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tinylm.errors import DataError, shown
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating
from tinylm.model.loss import at_least_float32
from tinylm.tokenizers.base import EOS_ID, SOS_ID, Tokenizer
from tinylm.tokenizers.utf8 import to_bytes

MOST_PREFIXES = 20_000
"""Prefixes that are read at most, if nothing else is said: seconds of a small model."""
_ROWS = 32
"""Prefixes of a batch."""
Edges = Sequence[Sequence[tuple[int, int]]]
"""For each place between bytes: where a token from there ends, and its id."""


@dataclass(frozen=True)
class TextProbability:
    """A text with all its segmentations; probabilities are logarithms, in nats."""

    paths: Sequence[tuple[tuple[int, ...], float]]
    """Ids of each segmentation with their log-probability, the most probable first."""
    canonical: tuple[int, ...]
    """The segmentation that the tokenizer gives."""
    num_bytes: int
    """Of the text."""
    prefixes: int
    """Prefixes of its segmentations, the empty one and whole ones included."""

    @property
    def total(self) -> float:
        """The logarithm of the sum over all segmentations."""
        best = self.paths[0][1]
        return best + math.log(math.fsum(math.exp(value - best) for _, value in self.paths))

    @property
    def usual(self) -> float:
        """That of the canonical segmentation."""
        return dict(self.paths)[self.canonical]

    @property
    def missed_bits(self) -> float:
        """Bits by which the usual number is too high a cost."""
        return max(0.0, (self.total - self.usual) / math.log(2))

    @property
    def share(self) -> float:
        """Share of the text's probability that the canonical segmentation has."""
        return math.exp(min(0.0, self.usual - self.total))


def edges_of(content: bytes, spellings: Sequence[bytes]) -> Edges:
    """Return the tokens that stand at each place of a text and from which its end can be reached.

    Args:
        content: the text.
        spellings: what each token writes; those that write nothing are left out.
    """
    longest = max(map(len, spellings), default=0)
    ids: dict[bytes, list[int]] = {}
    for token, spelling in enumerate(spellings):
        if spelling:
            ids.setdefault(spelling, []).append(token)
    edges: list[list[tuple[int, int]]] = [[] for _ in range(len(content) + 1)]
    for start in reversed(range(len(content))):
        for end in range(start + 1, min(len(content), start + longest) + 1):
            if end == len(content) or edges[end]:
                edges[start] += [(end, token) for token in ids.get(content[start:end], ())]
    return edges


def count(edges: Edges) -> tuple[int, int]:
    """Return the number of segmentations, and of their prefixes, the empty one included."""
    reached = [1, *[0] * (len(edges) - 1)]
    for start, following in enumerate(edges):
        for end, _ in following:
            reached[end] += reached[start]
    return reached[-1], sum(reached)


def text_probability(
    model: GenerativeModel,
    tokenizer: Tokenizer,
    text: str,
    ended: bool = True,
    most: int = MOST_PREFIXES,
) -> TextProbability:
    """Return the probability of a text after ``<sos>``, of each segmentation and of all.

    Args:
        model: any mode; it is evaluated without dropout and put back.
        tokenizer: its own.
        text: short.
        ended: whether ``<eos>`` follows, so that it is the whole text: then the sums of all texts
            add up to 1. If not, it is a beginning, after which some token begins.
        most: prefixes that may be read.

    Raises:
        DataError: if what tokens write hangs on other tokens, the text is empty, longer than the
            context, or has too many segmentations.
    """
    edges, canonical = _checked(model, tokenizer, text, ended, most)
    with evaluating(model):
        paths = _walk(model, edges, ended)
    paths.sort(key=lambda path: (-path[1], path[0]))
    return TextProbability(paths, canonical, len(edges) - 1, count(edges)[1])


def segmentable(tokenizer: Tokenizer, text: str, context: int, most: int = MOST_PREFIXES) -> int:
    """Return the number of segmentations of a text; 0 where ``text_probability`` would refuse it.

    Args:
        tokenizer: of the model.
        text: as there.
        context: the model's.
        most: prefixes that may be read.
    """
    spellings = tokenizer.spellings
    if spellings is None or not text:
        return 0
    edges = edges_of(to_bytes(text), spellings)
    segmentations, prefixes = count(edges)
    fits = prefixes <= most and _longest(edges) < context
    return segmentations if fits else 0


def _checked(
    model: GenerativeModel, tokenizer: Tokenizer, text: str, ended: bool, most: int
) -> tuple[Edges, tuple[int, ...]]:
    spellings = tokenizer.spellings
    if spellings is None:
        raise DataError(
            f"a tokenizer of {tokenizer.label} has no segmentations to sum over, because what its "
            "tokens write hangs on those beside them: take a model with tokens of bytes, such as "
            "tokenizer.kind=bpe"
        )
    if not text:
        raise DataError("an empty text has one segmentation, without tokens: give a text")
    canonical = tuple(tokenizer.encode(text))
    content = to_bytes(text)
    if b"".join(spellings[token] for token in canonical) != content:
        raise DataError(f"the tokenizer reads a part of {shown(text)} as <unk>: give another text")
    edges = edges_of(content, spellings)
    segmentations, prefixes = count(edges)
    if prefixes > most:
        raise DataError(
            f"{shown(text)} has {segmentations:,} segmentations with {prefixes:,} prefixes, each "
            f"of which is read, and at most {most:,} are: give a shorter text"
        )
    longest = _longest(edges)
    context = model.config.context_length
    if longest + ended > context:
        raise DataError(
            f"{shown(text)} has segmentations of {longest} tokens, which do not fit into "
            f"model.context_length = {context}: give a shorter text"
        )
    return edges, canonical


def _longest(edges: Edges) -> int:
    """Return the tokens of the longest segmentation."""
    longest = [0] * len(edges)
    for start in reversed(range(len(edges) - 1)):
        longest[start] = max((1 + longest[end] for end, _ in edges[start]), default=0)
    return longest[0]


@dataclass(frozen=True)
class _Prefix:
    ids: tuple[int, ...]
    place: int
    log_probability: float


@torch.no_grad()
def _walk(model: GenerativeModel, edges: Edges, ended: bool) -> list[tuple[tuple[int, ...], float]]:
    """Return all segmentations with their log-probabilities; each prefix is read once."""
    last = len(edges) - 1
    whole: list[tuple[tuple[int, ...], float]] = []
    # A batch: prefixes of as many tokens, the state that their parents left, and whose each is.
    stack: list[tuple[Any, list[int], list[_Prefix]]] = [
        (model.decoding_state(1), [0], [_Prefix((), 0, 0.0)])
    ]
    while stack:
        before, parents, prefixes = stack.pop()
        state = copy.deepcopy(before)
        state.reorder(torch.tensor(parents))
        tokens = [prefix.ids[-1] if prefix.ids else SOS_ID for prefix in prefixes]
        places = [len(prefixes[0].ids)] * len(prefixes)
        logits = at_least_float32(model.next_logits(tokens, places, state))
        following = logits.log_softmax(-1).cpu()  # (prefixes, vocab)
        children: list[tuple[int, _Prefix]] = []
        for row, prefix in enumerate(prefixes):
            if prefix.place == last:
                end = prefix.log_probability + float(following[row, EOS_ID])
                whole.append((prefix.ids, end))
                continue
            for place, token in edges[prefix.place]:
                value = prefix.log_probability + float(following[row, token])
                longer = _Prefix((*prefix.ids, token), place, value)
                if place == last and not ended:
                    whole.append((longer.ids, value))
                else:
                    children.append((row, longer))
        for start in range(0, len(children), _ROWS):
            chosen = children[start : start + _ROWS]
            stack.append((state, [row for row, _ in chosen], [child for _, child in chosen]))
    return whole
