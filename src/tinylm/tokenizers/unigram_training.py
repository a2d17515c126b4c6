"""Training a unigram model: a large seed vocabulary, EM, and pruning by loss (Kudo 2018).

1. *Seed.* Every character, and the substrings of words by how often they stand there times their
   length, up to a number.
2. *EM.* Expected counts of the pieces over all segmentations of all words, by the forward-backward
   recursion; from them new probabilities. Pieces expected less than half a time are dropped.
3. *Prune.* Of each piece the loss of likelihood if its uses went to its best other segmentation;
   those with the least loss go, a quarter at a time. Characters stay.

2 and 3 take turns until the vocabulary is small enough; then EM goes on alone. All words are worked
on at once, by operations on arrays, place by place: ``Cuts`` holds every piece at every place of
every word, 40 bytes each. Of a corpus of 5 MB, which has 8,300 different words, these are 230,000,
and a round of EM takes about 0.02 s.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEAST_EXPECTED = 0.5
"""A piece expected less often than this is dropped; a character is counted as often as this."""
_LONGEST_WORD = 256
"""Training cuts longer words into parts of this many characters."""


@dataclass(frozen=True)
class Plan:
    """How a vocabulary is trained."""

    size: int
    """Pieces at the end, characters included."""
    seed_size: int = 1_000_000
    """Most pieces at the start."""
    longest: int = 16
    """Most characters of a piece."""
    min_frequency: int = 2
    """Uses of a substring from which it may be a piece."""
    rounds: int = 2
    """Of EM between two prunings."""
    keep: float = 0.75
    """What share of the pieces a pruning leaves."""
    sparse: bool = True
    """Whether probabilities are ``exp(digamma(count) - digamma(sum))``; else counts over sum."""


def train(words: Mapping[str, int], plan: Plan) -> dict[str, float]:
    """Return the pieces of a vocabulary and their log-probabilities, most probable first.

    Args:
        words: how often each word stands in the texts; all their characters become pieces.
        plan: how.
    """
    counts = Counter(words)
    for word in [word for word in words if len(word) > _LONGEST_WORD]:
        uses = counts.pop(word)
        for start in range(0, len(word), _LONGEST_WORD):
            counts[word[start : start + _LONGEST_WORD]] += uses
    ordered = sorted(counts)
    uses_of = np.array([counts[word] for word in ordered], np.float64)
    seed = seeds(counts, plan)
    pieces = list(seed)
    single = np.array([len(piece) == 1 for piece in pieces])
    weights = np.array(list(seed.values()), np.float64)
    scores = np.log(weights / weights.sum())
    corpus = cuts(ordered, pieces, plan.longest)
    own = cuts(pieces, pieces, plan.longest, whole=False)
    # A number is the place in ``pieces`` all along: pieces that are gone are marked, not moved.
    alive = np.ones(len(pieces), dtype=bool)

    def improve(*, drop: bool) -> None:
        nonlocal alive, scores
        expected = expected_counts(corpus, scores, uses_of)[0]
        if drop:
            alive &= single | (expected >= LEAST_EXPECTED)
        expected = np.maximum(expected, LEAST_EXPECTED)
        scores = np.where(alive, maximised(np.where(alive, expected, 0.0), sparse=plan.sparse), 0.0)

    while True:
        for _ in range(plan.rounds):
            improve(drop=True)
            corpus, own = corpus.of(alive), own.of(alive)
        excess = int(alive.sum()) - plan.size
        if excess <= 0:
            break
        loss = losses(corpus, own, scores, uses_of, alive & ~single)
        wanted = max(plan.size, int(plan.keep * alive.sum()))
        candidates = np.flatnonzero(alive & ~single)
        order = candidates[np.lexsort((candidates, loss[candidates]))]
        alive[order[: int(alive.sum()) - wanted]] = False
        corpus, own = corpus.of(alive), own.of(alive)
    for _ in range(plan.rounds):
        improve(drop=False)
    kept = np.flatnonzero(alive).tolist()
    # Plain probabilities of the kept pieces: digamma's do not sum to 1.
    total = math.log(sum(math.exp(scores[index]) for index in kept))
    result = {pieces[index]: float(scores[index]) - total for index in kept}
    return dict(sorted(result.items(), key=lambda item: (-item[1], item[0])))


def of_known(words: Mapping[str, int], least: int) -> tuple[set[str], dict[str, int]]:
    """Return the characters that are frequent enough, and words without others.

    Args:
        words: how often each stands in the texts.
        least: how often a character must stand there.

    Returns:
        The characters, and the parts of words between unknown ones with their counts.
    """
    uses_of: Counter[str] = Counter()
    for word, uses in words.items():
        for character in word:
            uses_of[character] += uses
    known = {character for character, uses in uses_of.items() if uses >= least}
    counts: Counter[str] = Counter()
    for word, uses in words.items():
        for is_known, run in groupby(word, known.__contains__):
            if is_known:
                counts["".join(run)] += uses
    return known, counts


def seeds(words: Mapping[str, int], plan: Plan) -> dict[str, int]:
    """Return the pieces at the start, each with its uses times its length.

    All characters, by code point, then substrings by that number, the greatest first, ties by code
    points.
    """
    counts: Counter[str] = Counter()
    for word, uses in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(len(word), start + plan.longest) + 1):
                counts[word[start:end]] += uses
    characters = sorted(piece for piece in counts if len(piece) == 1)
    longer = [
        (-uses * len(piece), piece)
        for piece, uses in counts.items()
        if len(piece) > 1 and uses >= plan.min_frequency
    ]
    longer.sort()
    most = max(plan.seed_size - len(characters), 0)
    return {piece: counts[piece] for piece in characters} | {
        piece: -score for score, piece in longer[:most]
    }


@dataclass(frozen=True)
class Cuts:
    """Every piece at every place of many words. The places of all words are numbered in a row."""

    start: Ints
    """Place where it starts, (edges,)."""
    end: Ints
    """Place where it ends, (edges,)."""
    piece: Ints
    """Its number, (edges,)."""
    step: Ints
    """Characters of the word before its end, (edges,); the edges are sorted by it."""
    rest: Ints
    """Characters of the word after its start, (edges,)."""
    first: Ints
    """Place where each word starts, (words,)."""
    last: Ints
    """Place where each word ends, (words,)."""

    @property
    def places(self) -> int:
        """Number of places."""
        return int(self.last[-1]) + 1 if len(self.last) else 0

    def of(self, alive: npt.NDArray[np.bool_]) -> Cuts:
        """Return those with pieces that are left."""
        kept = alive[self.piece]
        if kept.all():
            return self
        return replace(
            self,
            start=self.start[kept],
            end=self.end[kept],
            piece=self.piece[kept],
            step=self.step[kept],
            rest=self.rest[kept],
        )


def cuts(words: Sequence[str], pieces: Sequence[str], longest: int, *, whole: bool = True) -> Cuts:
    """Return every piece at every place of words.

    Args:
        words: none of them empty.
        pieces: by number.
        longest: most characters of a piece.
        whole: whether a word that is a piece itself counts as one.
    """
    numbers = {piece: number for number, piece in enumerate(pieces)}
    rows: list[tuple[int, int, int, int, int]] = []
    firsts, lasts = [], []
    place = 0
    for word in words:
        length = len(word)
        firsts.append(place)
        for start in range(length):
            for end in range(start + 1, min(length, start + longest) + 1):
                number = numbers.get(word[start:end])
                if number is not None and (whole or end - start < length):
                    rows.append((end, length - start, place + start, place + end, number))
        place += length + 1
        lasts.append(place - 1)
    table = np.array(rows, np.int64).reshape(-1, 5)
    table = table[np.lexsort((table[:, 2], table[:, 3], table[:, 0]))]  # by step, end and start
    return Cuts(
        start=table[:, 2].copy(),
        end=table[:, 3].copy(),
        piece=table[:, 4].copy(),
        step=table[:, 0].copy(),
        rest=table[:, 1].copy(),
        first=np.array(firsts, np.int64),
        last=np.array(lasts, np.int64),
    )


def _groups(keys: Ints) -> Ints:
    """Return where each run of equal keys begins."""
    return np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))


def _summed(sums: Floats, to: Ints, values: Floats) -> None:
    """Put the logs of sums of exponentials of neighbouring ``values`` that go to the same place."""
    begins = _groups(to)
    most = np.maximum.reduceat(values, begins)
    lengths = np.diff(np.append(begins, len(values)))
    total = np.add.reduceat(np.exp(values - np.repeat(most, lengths)), begins)
    sums[to[begins]] = most + np.log(total)


def expected_counts(cuts: Cuts, scores: Floats, uses: Floats) -> tuple[Floats, float]:
    """Return how often each piece is expected in the words, and their log-likelihood.

    Args:
        cuts: of the words; each has a segmentation.
        scores: log-probability of each piece, (pieces,).
        uses: of each word, (words,).

    Returns:
        Counts, (pieces,): the sum over words of their uses times the sum of the probabilities of
        the piece's edges given the word. And the sum over words of their uses times the log of the
        sum of the probabilities of all their segmentations.
    """
    edge = scores[cuts.piece]
    forward = np.full(cuts.places, -np.inf)
    forward[cuts.first] = 0.0
    for part in _runs(cuts.step):
        _summed(forward, cuts.end[part], forward[cuts.start[part]] + edge[part])
    order = np.lexsort((cuts.end, cuts.start, cuts.rest))
    start, end, weight = cuts.start[order], cuts.end[order], edge[order]
    backward = np.full(cuts.places, -np.inf)
    backward[cuts.last] = 0.0
    for part in _runs(cuts.rest[order]):
        _summed(backward, start[part], weight[part] + backward[end[part]])
    totals = forward[cuts.last]  # (words,)
    word = np.searchsorted(cuts.last, cuts.end)
    share = np.exp(forward[cuts.start] + edge + backward[cuts.end] - totals[word])
    counts: Floats = np.bincount(cuts.piece, share * uses[word], len(scores)).astype(np.float64)
    return counts, float(uses @ totals)


def _runs(keys: Ints) -> Iterable[slice]:
    """Yield the runs of equal sorted keys."""
    if len(keys):
        begins = [*_groups(keys).tolist(), len(keys)]
        yield from (slice(a, b) for a, b in pairwise(begins))


def maximised(counts: Floats, *, sparse: bool) -> Floats:
    """Return the log-probabilities that follow from expected counts, (pieces,).

    Args:
        counts: (pieces,); 0 gives minus infinity.
        sparse: ``digamma(count) - digamma(sum)``, the mean of a log-probability under a Dirichlet
            distribution with these counts (Liang and Klein 2007), which rare pieces lose by; else
            their maximum of likelihood, ``log(count / sum)``.
    """
    with np.errstate(divide="ignore"):
        if sparse:
            shares = np.where(counts > 0, digamma(np.maximum(counts, 1e-9)), -np.inf)
            result: Floats = shares - digamma(np.array([counts.sum()]))
        else:
            result = np.log(counts) - np.log(counts.sum())
    return result


def digamma(x: Floats) -> Floats:
    """Return the derivative of the log of the gamma function at positive numbers.

    Its recurrence up to 10, then its asymptotic series (Abramowitz and Stegun 1964, 6.3.5 and
    6.3.18): the error is below 1e-12.
    """
    x = np.asarray(x, np.float64).copy()
    result = np.zeros_like(x)
    while (small := x < 10).any():
        result[small] -= 1 / x[small]
        x[small] += 1
    square = 1 / (x * x)
    series = square * (
        1 / 12 - square * (1 / 120 - square * (1 / 252 - square * (1 / 240 - square / 132)))
    )
    total: Floats = result + np.log(x) - 0.5 / x - series
    return total


def best_edges(cuts: Cuts, scores: Floats) -> tuple[Floats, Ints]:
    """Return the score of the best way to each place and its last edge, -1 where there is none.

    Both are (places,); of equal ways that is taken whose last piece starts first.
    """
    best = np.full(cuts.places, -np.inf)
    best[cuts.first] = 0.0
    last = np.full(cuts.places, -1, np.int64)
    edge = scores[cuts.piece]
    for part in _runs(cuts.step):
        values, to = best[cuts.start[part]] + edge[part], cuts.end[part]
        begins = _groups(to)
        most = np.maximum.reduceat(values, begins)
        lengths = np.diff(np.append(begins, len(values)))
        here = np.flatnonzero(values == np.repeat(most, lengths))
        winners = here[np.searchsorted(here, begins)]
        reached = most > -np.inf
        best[to[begins]] = most
        last[to[begins[reached]]] = winners[reached] + part.start
    return best, last


def used(cuts: Cuts, last: Ints) -> tuple[Ints, Ints]:
    """Return the pieces of the best segmentation of every word, and the words that they are of."""
    words, pieces = [], []
    word = np.arange(len(cuts.last))
    place = cuts.last
    while len(word):
        edge = last[place]
        there = edge >= 0
        word, edge = word[there], edge[there]
        words.append(word)
        pieces.append(cuts.piece[edge])
        place = cuts.start[edge]
    return np.concatenate(pieces), np.concatenate(words)


def losses(
    corpus: Cuts, own: Cuts, scores: Floats, uses: Floats, candidates: npt.NDArray[np.bool_]
) -> Floats:
    """Return what the likelihood loses without each piece, (pieces,).

    The words are cut in the best way; a piece's uses go to the pieces of the best other
    segmentation of itself, and all probabilities are the relative frequencies then. That is the
    difference of ``sum n log n - N log N`` with the counts ``n`` before and after.

    Args:
        corpus: the cuts of the words.
        own: the cuts of the pieces themselves, each without the one that is the whole of it.
        scores: (pieces,).
        uses: of each word.
        candidates: whether a piece may go; others get infinity, as do those that nothing replaces.
    """
    pieces, words = used(corpus, best_edges(corpus, scores)[1])
    counts = np.bincount(pieces, uses[words], len(scores))
    total = counts.sum()
    ways, last = best_edges(own, scores)
    parts, wholes = used(own, last)
    replaceable = candidates & (ways[own.last] > -np.inf)

    # How often each part stands in the segmentation of its piece.
    keys, often = np.unique(wholes * len(scores) + parts, return_counts=True)
    whole, part = keys // len(scores), keys % len(scores)
    gained = _log_power(counts[part] + often * counts[whole]) - _log_power(counts[part])
    gain = np.bincount(whole, gained, len(scores))
    length = np.bincount(whole, often, len(scores))
    new_total = total + counts * (length - 1)
    loss = _log_power(counts) - gain - _log_power(total) + _log_power(new_total)
    return np.where(replaceable, loss, np.inf)


def _log_power(n: npt.ArrayLike) -> Floats:
    """Return ``n log n``, 0 at 0."""
    values = np.asarray(n, np.float64)
    result: Floats = values * np.log(np.where(values > 0, values, 1.0))
    return result
