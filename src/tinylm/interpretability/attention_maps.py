"""What each attention head looks at: patterns, measured descriptors, a sentence from the numbers.

The descriptors are those by which heads have been sorted before: share of weight on the token
itself, on the one before, on the first token and on punctuation, and the entropy of the weights
(Clark et al. 2019, "What Does BERT Look At?", sections 3.1 to 3.3); mean distance looked back
(Vig and Belinkov 2019, "Analyzing the Structure of Attention"). Weight resting on the
first token is common in decoders (Xiao et al. 2023, "Efficient Streaming Language Models with
Attention Sinks").

A share says little by itself: in a sentence of five tokens a head that spreads its weight evenly
already gives 32 % to the previous token. So each number stands beside that of the **uniform causal
head** (query i gives 1/(i + 1) to each of the tokens 0 to i), computed exactly for the same
sentence, and what a head is called depends on its distance from that baseline.

Attention weights show where a head reads, not what the model does with it (Jain and Wallace 2019,
"Attention is not Explanation"): the sentences describe, and prove no cause.

Layers and heads count from 0 in arrays, as in the names of activations (``layers.0``), and from 1
wherever a person reads them (``head_name``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.errors import GenerationError
from tinylm.model.decoder import DecoderLM, record

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

_SUM_TOLERANCE = 5e-3  # bfloat16 rounds each weight by up to 2^-9 of it


@dataclass(frozen=True)
class HeadDescriptors:
    """Where one head's weight goes, averaged over the queries of a sentence (or of several).

    Query 0 sees only itself, whatever the head does, so it is left out everywhere. "All queries"
    below are queries 1 to seq - 1. In brackets: what the uniform causal head gives, where n is
    seq and sums run over those same queries.
    """

    queries: int
    """Number of queries averaged, seq - 1."""
    mean_distance: float
    """Tokens back: mean over all queries of sum_j weight[i, j] * (i - j).  [n / 4]"""
    entropy_bits: float
    """Mean over all queries of the entropy of their weights, in bits.  [mean of log2(i + 1)]"""
    entropy: float
    """The same, each query's divided by log2(i + 1), the most it could have: 0 to 1.  [1]"""
    previous: float
    """Share on token i - 1, mean over all queries.  [mean of 1 / (i + 1)]"""
    first: float
    """Share on token 0 (``<sos>``), mean over all queries.  [mean of 1 / (i + 1)]

    For query 1 the first token is also the previous one, and its weight counts for both.
    """
    self_share: float
    """Share on token i itself, mean over all queries.  [mean of 1 / (i + 1)]"""
    same_word: float | None
    """Share on earlier occurrences of the same token id, not counting itself, mean over the
    queries that have one and are no punctuation mark (a comma that looks at a comma counts as
    punctuation); None where there is no such query.  [mean of occurrences / (i + 1)]

    Unknown words share one id: to the model, and so here, they are the same word.
    """
    same_word_queries: int
    """Number of queries that ``same_word`` averages."""
    punctuation: float | None
    """Share on earlier punctuation marks, not counting itself, mean over the queries that have
    one before them; None where there is no such query.  [mean of marks / (i + 1)]"""
    punctuation_queries: int
    """Number of queries that ``punctuation`` averages."""


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
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            batch = torch.tensor([list(ids)], device=device)  # (1, seq)
            _, kept = record(model, ["layers.*.attention.pattern"], batch)
    finally:
        model.train(was_training)
    layers = range(model.config.num_layers)
    patterns = [kept[f"layers.{i}.attention.pattern"][0] for i in layers]  # (heads, seq, seq)
    return torch.stack(patterns).float().cpu()  # (layers, heads, seq, seq)


def is_punctuation(word: str) -> bool:
    """Tell whether a token is a punctuation mark: no letter or digit, and not ``<special>``."""
    special = len(word) > 2 and word.startswith("<") and word.endswith(">")
    return bool(word) and not special and not any(c.isalnum() for c in word)


def describe_head(
    pattern: Tensor, token_ids: Sequence[int], punctuation: Sequence[bool]
) -> HeadDescriptors:
    """Measure one head on one sentence.

    Args:
        pattern: (seq, seq), causal, rows sum to 1.
        token_ids: (seq), to find repeated words.
        punctuation: (seq), True where a token is a punctuation mark.

    Raises:
        GenerationError: if seq < 2: no query has a choice.
        ValueError: if shapes differ, rows do not sum to 1, or a query sees a later token.
    """
    seq = len(token_ids)
    _check_length(seq)
    if pattern.shape != (seq, seq) or len(punctuation) != seq:
        raise ValueError(
            f"a pattern of shape {tuple(pattern.shape)} and {len(punctuation)} punctuation flags "
            f"do not fit {seq} tokens"
        )
    weights = pattern.detach().to("cpu", torch.float64)  # (seq, seq)
    if not torch.allclose(
        weights.sum(1), torch.ones(seq, dtype=torch.float64), atol=_SUM_TOLERANCE
    ):
        raise ValueError("the rows of an attention pattern must sum to 1")
    if weights.min() < 0 or weights.triu(1).max() > _SUM_TOLERANCE:
        raise ValueError("an attention pattern must not be negative or look at later tokens")
    place = torch.arange(seq, dtype=torch.float64)
    seen = weights[1:]  # (seq - 1, seq), query 0 left out
    distance = place[1:, None] - place[None, :]  # (seq - 1, seq)
    bits = -torch.xlogy(seen, seen).sum(1) / math.log(2)  # (seq - 1)
    same, marks = _earlier(token_ids, punctuation)  # (seq, seq), (seq, seq)
    return HeadDescriptors(
        queries=seq - 1,
        mean_distance=float((seen * distance).sum(1).mean()),
        entropy_bits=float(bits.mean()),
        entropy=float((bits / torch.log2(place[1:] + 1)).mean()),
        previous=float(weights.diagonal(-1).mean()),
        first=float(seen[:, 0].mean()),
        self_share=float(weights.diagonal()[1:].mean()),
        same_word=_conditional_share(weights, same),
        same_word_queries=int(same.any(1).sum()),
        punctuation=_conditional_share(weights, marks),
        punctuation_queries=int(marks.any(1).sum()),
    )


def uniform_baseline(token_ids: Sequence[int], punctuation: Sequence[bool]) -> HeadDescriptors:
    """Measure the head that spreads its weight evenly over all it sees, on one sentence.

    Exact: ``describe_head`` of the pattern with 1 / (i + 1) in row i, in float64.

    Raises:
        GenerationError: if there are fewer than 2 tokens.
        ValueError: if the lengths differ.
    """
    seq = len(token_ids)
    _check_length(seq)
    ones = torch.ones(seq, seq, dtype=torch.float64).tril()
    return describe_head(ones / ones.sum(1, keepdim=True), token_ids, punctuation)


def aggregate(descriptors: Sequence[HeadDescriptors]) -> HeadDescriptors:
    """Join one head's descriptors over several sentences.

    Every mean is weighted by the number of queries it rests on, so the result is the mean over
    the queries of all the sentences together. Join baselines in the same way.

    Raises:
        ValueError: if there are none.
    """
    if not descriptors:
        raise ValueError("there are no descriptors to join")

    def mean(value: Callable[[HeadDescriptors], float]) -> float:
        return sum(value(d) * d.queries for d in descriptors) / queries

    def conditional(pairs: list[tuple[float | None, int]]) -> float | None:
        total = sum(count for _, count in pairs)
        return (
            sum(share * count for share, count in pairs if share is not None) / total
            if total
            else None
        )

    queries = sum(d.queries for d in descriptors)
    same = [(d.same_word, d.same_word_queries) for d in descriptors]
    marks = [(d.punctuation, d.punctuation_queries) for d in descriptors]
    return HeadDescriptors(
        queries=queries,
        mean_distance=mean(lambda d: d.mean_distance),
        entropy_bits=mean(lambda d: d.entropy_bits),
        entropy=mean(lambda d: d.entropy),
        previous=mean(lambda d: d.previous),
        first=mean(lambda d: d.first),
        self_share=mean(lambda d: d.self_share),
        same_word=conditional(same),
        same_word_queries=sum(count for _, count in same),
        punctuation=conditional(marks),
        punctuation_queries=sum(count for _, count in marks),
    )


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
    _check_length(len(ids))
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


def _check_length(seq: int) -> None:
    if seq < 2:
        raise GenerationError(
            f"a sentence of {seq} token(s) leaves attention no choice: give at least one word "
            "after <sos>"
        )


def _earlier(token_ids: Sequence[int], punctuation: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """Return where the same word and where punctuation lies before each query, (seq, seq) each."""
    ids = torch.tensor(list(token_ids))
    mark = torch.tensor(list(punctuation), dtype=torch.bool)
    before = torch.ones(len(ids), len(ids), dtype=torch.bool).tril(-1)  # strictly earlier keys
    same = before & (ids[:, None] == ids[None, :]) & ~mark[:, None]
    return same, before & mark[None, :]


def _conditional_share(weights: Tensor, wanted: Tensor) -> float | None:
    """Return the mean weight on the wanted keys, over the queries that have any; else None."""
    has = wanted.any(1)
    return float((weights * wanted).sum(1)[has].mean()) if has.any() else None


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"  # a no-break space: no line begins with "%"


def _tokens(distance: float) -> str:
    return f"{distance:.1f} tokens"
