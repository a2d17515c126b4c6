"""Training WordPiece: pairs of neighbouring pieces that become pieces, as in byte-pair encoding.

A word begins as its first character and the others with ``##`` before each. Then one pair of
neighbours after the other becomes a piece, chosen by a score:

- ``count``: the most frequent pair. That is what Hugging Face's ``WordPieceTrainer`` does, whose
  trainer is that of BPE, and so it is here (``loops.bpe_learning``). Ties go to the smaller pair of
  ids.
- ``likelihood``: the pair whose count divided by the product of its parts' counts is greatest, the
  gain of likelihood of a unigram model (Schuster and Nakajima 2012). Ties go to the more frequent
  pair, then to the smaller ids.

Ids are the special tokens, the characters by code point, the same after ``##`` where one stands
within a word, and pieces in the order in which they were made. (That library numbers the second
kind in the order in which it meets them, which differs from run to run.) A pair that makes a piece
that is there already takes its id.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tinylm.tokenizers.counted_words import Codes, Ints, Words

CONTINUES = "##"
"""Stands before a piece that does not begin a word."""
Pair = tuple[int, int]
Score = tuple[float, int, Pair]


def alphabet(words: Words, most: int) -> list[str]:
    """Return the pieces that training begins with.

    Args:
        words: of the texts.
        most: how many characters are taken, the most frequent ones, ties by code point.
    """
    uses = np.bincount(words.codes, np.repeat(words.uses, words.sizes))
    known = np.flatnonzero(uses)
    kept = np.sort(known[np.argsort(-uses[known], kind="stable")][:most])
    codes, _, within = _kept(words, kept)
    return [*map(chr, kept), *(CONTINUES + chr(code) for code in np.unique(codes[within]))]


def _kept(words: Words, known: Ints) -> tuple[Codes, Ints, npt.NDArray[np.bool_]]:
    """Return the known characters of all words, bounds of the words, and what begins no word."""
    is_known = np.isin(words.codes, known)
    bounds = np.concatenate(([0], np.cumsum(is_known)))[words.bounds]
    codes = words.codes[is_known]
    within = np.ones(len(codes), dtype=bool)
    within[bounds[:-1][np.diff(bounds) > 0]] = False
    return codes, bounds, within


def merged(left: str, right: str) -> str:
    """Return the piece that two neighbours make."""
    return left + right.removeprefix(CONTINUES)


def learn(
    words: Words,
    pieces: Sequence[str],
    size: int,
    min_frequency: int,
    *,
    likelihood: bool = False,
) -> list[str]:
    """Return the pieces of a vocabulary, those given first.

    Args:
        words: of the texts. Characters that are no piece are left out.
        pieces: those that training begins with, by ids, as ``alphabet`` gives them.
        size: pieces at the end, fewer if no pair is frequent enough.
        min_frequency: count from which a pair becomes a piece.
        likelihood: whether pairs are chosen by the gain of likelihood, else by count.
    """
    if not likelihood:
        return _by_count(words, list(pieces), size, min_frequency)
    corpus = _Corpus(words.counts(), list(pieces))
    best = _Best(corpus)
    while len(corpus.pieces) < size:
        pair = best.taken()
        if pair is None:
            break
        # A rare pair may come first: then the next one has its turn.
        if corpus.pairs[pair] >= min_frequency:
            corpus.merge(pair)
    return corpus.pieces


def _by_count(words: Words, pieces: list[str], size: int, min_frequency: int) -> list[str]:
    from tinylm.tokenizers.loops.bpe_learning import learn

    numbers = {piece: number for number, piece in enumerate(pieces)}
    known = [piece for piece in pieces if len(piece) == 1]
    codes, bounds, within = _kept(words, np.array([*map(ord, known)], np.int64))
    ids = np.zeros((2, 0x110000), np.int32)
    for character in known:
        ids[0, ord(character)] = numbers[character]
        ids[1, ord(character)] = numbers.get(CONTINUES + character, 0)
    symbols = np.where(within, ids[1, codes], ids[0, codes])
    tokens = [piece.encode() for piece in pieces]
    learned = learn(*(symbols, bounds, words.uses, tokens, 0, size, min_frequency, len(CONTINUES)))
    for left, right, token in learned:
        if token == len(pieces):
            pieces.append(merged(pieces[left], pieces[right]))
    return pieces


class _Corpus:
    """Words as ids of pieces, and the counts of pieces and of pairs of neighbours in them."""

    def __init__(self, words: Mapping[str, int], pieces: list[str]) -> None:
        self.pieces = pieces
        self._ids = {piece: number for number, piece in enumerate(pieces)}
        self._words: list[list[int]] = []
        self._uses: list[int] = []
        self.counts: Counter[int] = Counter()
        self.pairs: Counter[Pair] = Counter()
        self._where: dict[Pair, set[int]] = {}
        self._with: dict[int, set[Pair]] = {}
        self.changed: set[Pair] = set()
        """Pairs whose score may be better than when they were last asked for."""
        for word in sorted(words):
            characters = [character for character in word if character in self._ids]
            ids = [self._ids[character] for character in characters[:1]]
            ids += [self._ids[CONTINUES + character] for character in characters[1:]]
            self._add(len(self._words), ids, words[word])
            self._words.append(ids)
            self._uses.append(words[word])

    def _add(self, number: int, ids: Sequence[int], uses: int) -> None:
        for token in ids:
            self.counts[token] += uses
        for pair in pairwise(ids):
            self.pairs[pair] += uses
            if uses > 0:
                self._where.setdefault(pair, set()).add(number)
                self.changed.add(pair)
                for part in pair:
                    self._with.setdefault(part, set()).add(pair)

    def merge(self, pair: Pair) -> None:
        """Make a piece of a pair wherever it stands, from the left."""
        left, right = pair
        piece = merged(self.pieces[left], self.pieces[right])
        token = self._ids.setdefault(piece, len(self.pieces))
        if token == len(self.pieces):
            self.pieces.append(piece)
        for number in self._where.pop(pair):
            ids, uses = self._words[number], self._uses[number]
            after = list(_merged(ids, left, right, token))
            if len(after) < len(ids):  # a word that no longer has the pair may still be listed
                self._add(number, ids, -uses)
                self._add(number, after, uses)
                self._words[number] = after
        del self.pairs[pair]
        for part in pair:  # they are rarer now
            self.changed |= self._with[part]


def _merged(ids: Sequence[int], left: int, right: int, token: int) -> Iterator[int]:
    place = 0
    while place < len(ids):
        if ids[place] == left and ids[place + 1 : place + 2] == [right]:
            yield token
            place += 2
        else:
            yield ids[place]
            place += 1


def _score(corpus: _Corpus, pair: Pair) -> Score:
    left, right = pair
    count = corpus.pairs[pair]
    return -count / (corpus.counts[left] * corpus.counts[right]), -count, pair


class _Best:
    """Gives the pair of the least score by a heap; entries that say too little go back."""

    def __init__(self, corpus: _Corpus) -> None:
        self._corpus = corpus
        self._heap: list[Score] = []

    def taken(self) -> Pair | None:
        """Return the pair, which is not given again unless it changes."""
        corpus = self._corpus
        for pair in corpus.changed:
            if corpus.pairs.get(pair, 0) > 0:
                heapq.heappush(self._heap, _score(corpus, pair))
        corpus.changed.clear()
        while self._heap:
            stated = heapq.heappop(self._heap)
            pair = stated[-1]
            if corpus.pairs.get(pair, 0) <= 0:
                continue
            score = _score(corpus, pair)
            if score == stated:
                return pair
            if score > stated:
                heapq.heappush(self._heap, score)
        return None
