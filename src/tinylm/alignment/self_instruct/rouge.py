"""ROUGE-L: how much of two texts is common to both, in the same order (Lin 2004, section 3.1).

With LCS, the length of the longest common subsequence of two lists of words of lengths m and n,
precision is LCS / n, recall LCS / m, and F1, their harmonic mean, 2 LCS / (m + n). As in the
package ``rouge-score`` without its stemmer, words are runs of letters and digits in lower case;
here those of every alphabet.

The length is found bit by bit in parallel (Hyyrö 2004, "Bit-Parallel LCS-length Computation
Revisited"): one addition of integers of m bits for each of n words, where the table of dynamic
programming takes m n steps.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Return the words of a text as ROUGE counts them."""
    return _WORD.findall(text.lower())


def lcs_length(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Return the length of the longest common subsequence."""
    places: dict[Hashable, int] = {}
    for place, item in enumerate(first):
        places[item] = places.get(item, 0) | 1 << place
    full = (1 << len(first)) - 1
    row = full  # a 0 at each place where the length rises by one
    for item in second:
        matches = row & places.get(item, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(first) - row.bit_count()


def f1(first: Sequence[str], second: Sequence[str]) -> float:
    """Return ROUGE-L's F1 of two lists of words, in [0, 1]; 0 if one is empty."""
    total = len(first) + len(second)
    return 2 * lcs_length(first, second) / total if first and second else 0.0


class Known:
    """Texts that a new one is compared with."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self._texts: list[tuple[str, list[str], Counter[str]]] = []
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Compare later texts with this one too."""
        of_text = words(text)
        self._texts.append((text, of_text, Counter(of_text)))

    def nearest(self, text: str, above: float) -> tuple[str, float] | None:
        """Return the most similar text and its F1, if that is above a limit.

        Where the words that two texts share in any order are too few, their order is not looked at.
        """
        of_text = words(text)
        counts = Counter(of_text)
        best: tuple[str, float] | None = None
        for other, of_other, other_counts in self._texts:
            most = 2 * (counts & other_counts).total() / max(1, len(of_text) + len(of_other))
            if most <= above:
                continue
            value = f1(of_text, of_other)
            if value > above:
                best, above = (other, value), value
        return best
