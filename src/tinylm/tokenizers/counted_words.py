"""The different words of texts as arrays, which training works on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tinylm.tokenizers.loops.counting import WordTable

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]


def codes_of(text: str) -> Codes:
    """Return the code points of a text, (characters,)."""
    return np.frombuffer(text.encode("utf-32-le"), "<i4").astype(np.int32)


def text_of(codes: Codes) -> str:
    """Return the text of code points, (characters,)."""
    return codes.astype("<i4").tobytes().decode("utf-32-le")


@dataclass(frozen=True)
class Words:
    """Words and how often each is used."""

    codes: Codes
    """The code points of all words in a row, (characters,)."""
    bounds: Ints
    """Of the words, (words + 1,)."""
    uses: Ints
    """(words,)."""

    @classmethod
    def of(cls, words: Sequence[bytes], uses: Sequence[int]) -> Words:
        """Return words that are given as UTF-8, in the order of their code points.

        Sums of fractions depend on the order of what is added, so it is always the same.
        """
        order = sorted(range(len(words)), key=words.__getitem__)  # bytes of UTF-8 as code points
        text = b"".join([words[index] for index in order])
        begins = (np.frombuffer(text, np.uint8) & 0xC0) != 0x80
        before = np.concatenate(([0], np.cumsum(begins)))
        ends = np.cumsum([0, *(len(words[index]) for index in order)])
        return cls(codes_of(text.decode()), before[ends], np.asarray(uses, np.int64)[order])

    @classmethod
    def of_table(cls, table: WordTable) -> Words:
        """Return the words that were counted."""
        content, bounds, uses = table.words()
        whole = content.tobytes()
        words = [whole[start:end] for start, end in itertools.pairwise(bounds.tolist())]
        return cls.of(words, uses.tolist())

    @classmethod
    def of_counts(cls, counts: Mapping[str, int]) -> Words:
        """Return words whose uses are given by their names."""
        return cls.of([word.encode() for word in counts], list(counts.values()))

    @property
    def sizes(self) -> Ints:
        """Characters of each word, (words,)."""
        return np.diff(self.bounds)

    def counts(self) -> dict[str, int]:
        """Return the uses of each word by its name."""
        text, bounds = text_of(self.codes), self.bounds.tolist()
        names = [text[start:end] for start, end in itertools.pairwise(bounds)]
        return dict(zip(names, self.uses.tolist(), strict=True))
