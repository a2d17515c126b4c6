"""What one attention head does on a sentence, as numbers.

The descriptors are those by which heads have been sorted before: share of weight on the token
itself, on the one before, on the first token and on punctuation, and the entropy of the weights
(Clark et al. 2019, "What Does BERT Look At?", sections 3.1 to 3.3); mean distance looked back
(Vig and Belinkov 2019, "Analyzing the Structure of Attention"). Weight resting on the
first token is common in decoders (Xiao et al. 2023, "Efficient Streaming Language Models with
Attention Sinks").

A share says little by itself: in a sentence of five tokens a head that spreads its weight evenly
already gives 32 % to the previous token. So each number stands beside that of the **uniform causal
head** (query i gives 1/(i + 1) to each of the tokens 0 to i), computed exactly for the same
sentence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.errors import GenerationError

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
    check_length(seq)
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
    check_length(seq)
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


def check_length(seq: int) -> None:
    """Refuse a sentence too short to measure.

    Raises:
        GenerationError: if it has fewer than 2 tokens.
    """
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
