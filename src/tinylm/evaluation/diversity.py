"""How varied a set of texts is: distinct-n, repetition and the share of unknown words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def ngrams(text: Sequence[int], n: int) -> Iterator[tuple[int, ...]]:
    """Yield the n-grams of a text in order."""
    return (tuple(text[i : i + n]) for i in range(len(text) - n + 1))


def distinct(texts: Sequence[Sequence[int]], n: int) -> float:
    """Return distinct-n: different n-grams over all n-grams of all texts (Li et al. 2016).

    It falls as the amount of text grows, so compare only sets of like size.
    """
    grams = [gram for text in texts for gram in ngrams(text, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(texts: Sequence[Sequence[int]], n: int = 4) -> float:
    """Return the share of n-grams that stood earlier in the same text (Welleck et al. 2020)."""
    total = repeated = 0
    for text in texts:
        grams = list(ngrams(text, n))
        total += len(grams)
        repeated += len(grams) - len(set(grams))
    return repeated / total if total else 0.0


def share_of(texts: Sequence[Sequence[int]], token: int) -> float:
    """Return how often ``token`` stands among all tokens of all texts."""
    total = sum(len(text) for text in texts)
    return sum(list(text).count(token) for text in texts) / total if total else 0.0
