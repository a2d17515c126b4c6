"""Training a unigram model: a large seed vocabulary, EM, and pruning by loss (Kudo 2018).

1. *Seed.* Every character, and the substrings of words by how often they stand there times their
   length, up to a number (``unigram_seeds``).
2. *EM.* Expected counts of the pieces over all segmentations of all words, by the forward-backward
   recursion; from them new probabilities. Pieces expected less than half a time are dropped.
3. *Prune.* Of each piece the loss of likelihood if its uses went to its best other segmentation;
   those with the least loss go, a quarter at a time. Characters stay.

2 and 3 take turns until the vocabulary is small enough; then EM goes on alone. Each different word
is worked on once, whatever its uses, by compiled loops (``loops.unigram_learning``). ``Cuts`` holds
every piece at every place of every word, 4 bytes each: of a corpus of 5 MB, which has 8,300
different words, these are 230,000.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinylm.tokenizers.counted_words import Ints, Words
from tinylm.tokenizers.loops import unigram_learning as loops
from tinylm.tokenizers.unigram_seeds import Pieces, seeds

Floats = npt.NDArray[np.float64]

LEAST_EXPECTED = 0.5
"""A piece expected less often than this is dropped; a character is counted as often as this."""
_DECIMALS = 8
"""Of a log-probability. Sums differ by 1e-14 between processors, and ties, which are many, go by
code points: rounded, both give the same ids everywhere."""


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


def train(words: Words, plan: Plan) -> dict[str, float]:
    """Return the pieces of a vocabulary and their log-probabilities, most probable first.

    Args:
        words: of the texts, as ``known_parts`` gives them; all their characters become pieces.
        plan: how.
    """
    pieces, weights = seeds(words, plan.seed_size, plan.longest, plan.min_frequency)
    single = pieces.sizes == 1
    scores = np.log(weights / weights.sum())
    cuts = Cuts.of(words, pieces)
    # A number is the place in ``pieces`` all along: pieces that are gone are marked, not moved.
    alive = np.ones(len(pieces), dtype=bool)

    def improve(*, drop: bool) -> None:
        nonlocal alive, scores
        expected = cuts.expected_counts(scores)[0]
        if drop:
            alive &= single | (expected >= LEAST_EXPECTED)
        counts = np.maximum(expected[alive], LEAST_EXPECTED)
        scores = np.zeros(len(pieces))
        scores[alive] = maximised(counts, sparse=plan.sparse)

    while True:
        for _ in range(plan.rounds):
            improve(drop=True)
            cuts.keep(alive)
        excess = int(alive.sum()) - plan.size
        if excess <= 0:
            break
        loss = cuts.losses(scores, alive & ~single)
        wanted = max(plan.size, int(plan.keep * alive.sum()))
        candidates = np.flatnonzero(alive & ~single)
        order = candidates[np.argsort(loss[candidates], kind="stable")]
        alive[order[: int(alive.sum()) - wanted]] = False
        cuts.keep(alive)
    for _ in range(plan.rounds):
        improve(drop=False)
    kept = np.flatnonzero(alive).tolist()
    # Plain probabilities of the kept pieces: digamma's do not sum to 1.
    total = math.log(sum(math.exp(scores[index]) for index in kept))
    result = {pieces[index]: round(float(scores[index]) - total, _DECIMALS) for index in kept}
    return dict(sorted(result.items(), key=lambda item: (-item[1], item[0])))


@dataclass
class Cuts:
    """Every piece at every place of words."""

    words: Words
    """Each has a segmentation."""
    pieces: Pieces
    """They have numbers in the order in which they stand here."""
    ends: Ints
    """Bounds of the edges that end with each character of the words, (characters + 1,)."""
    edges: npt.NDArray[np.int32]
    """Numbers of their pieces, (edges,), for each character the shortest first."""

    @classmethod
    def of(cls, words: Words, pieces: Pieces) -> Cuts:
        """Find the pieces in the words.

        Args:
            words: none of them empty.
            pieces: all different.
        """
        slots = np.full(1 << (2 * len(pieces)).bit_length(), -1, np.int32)
        table = (slots, np.empty(len(pieces), np.uint64), pieces.codes, pieces.starts, pieces.sizes)
        loops.put_pieces(table[2], table[3], table[4], table[0], table[1])
        longest = int(pieces.sizes.max())
        ends = np.zeros(len(words.codes) + 1, np.int64)
        given = (words.codes, words.bounds, table, longest)
        loops.write_edges(*given, False, ends, np.empty(0, np.int32))
        edges = np.empty(int(ends[-1]), np.int32)
        loops.write_edges(*given, True, ends, edges)
        return cls(words, pieces, ends, edges)

    def keep(self, alive: npt.NDArray[np.bool_]) -> None:
        """Leave those with the pieces that are ``alive``, (pieces,)."""
        self.edges = self.edges[: loops.keep_edges(self.ends, self.edges, alive)]

    def _given(self, scores: Floats) -> tuple[object, ...]:
        return (self.words.bounds, self.ends, self.edges, self.pieces.sizes, scores)

    def expected_counts(self, scores: Floats) -> tuple[Floats, float]:
        """Return how often each piece is expected in the words, and their log-likelihood.

        Args:
            scores: log-probability of each piece, (pieces,).

        Returns:
            Counts, (pieces,): the sum over words of their uses times the sum of the probabilities
            of the piece's edges given the word. And the sum over words of their uses times the log
            of the sum of the probabilities of all their segmentations.
        """
        counts = np.zeros(len(scores))
        likelihood = loops.add_expected(*self._given(scores), self.words.uses, counts)
        return counts, float(likelihood)

    def best_counts(self, scores: Floats) -> tuple[Floats, float]:
        """Return how often each piece stands in the best segmentations, and their score.

        Of equal ways to a place that is taken whose last piece starts first. The score is the sum
        over words of their uses times the scores of these pieces.
        """
        counts = np.zeros(len(scores))
        total = loops.add_best(*self._given(scores), self.words.uses, counts)
        return counts, float(total)

    def losses(self, scores: Floats, candidates: npt.NDArray[np.bool_]) -> Floats:
        """Return what the likelihood loses without each piece, (pieces,).

        The words are cut in the best way; a piece's uses go to the pieces of the best other
        segmentation of itself, and all probabilities are the relative frequencies then. That is the
        difference of ``sum n log n - N log N`` with the counts ``n`` before and after.

        Args:
            scores: (pieces,).
            candidates: whether a piece may go, and then it stands in the words where ``pieces``
                says; others get infinity, as do those that nothing replaces.
        """
        counts = self.best_counts(scores)[0]
        result = np.empty(len(scores))
        loops.write_losses(
            *(self.ends, self.edges, self.pieces.starts, self.pieces.sizes),
            *(scores, counts, candidates, result),
        )
        return result


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
    result = np.empty(len(x))
    loops.write_digamma(np.asarray(x, np.float64), result)
    return result
