"""What a word vocabulary is made from: how often each type is used, and how often capitalised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tinylm.tokenizers.word_rule import (
    MAYBE_SENTENCE_START,
    MAYBE_START_TABLE,
    ascii_tokens,
    normalise,
    split_normalised,
    text_ends,
)

NAME_MIN_COUNT = 3
"""A type needs this many capitals inside sentences before it counts as a name."""
NAME_MIN_SHARE = 0.5
"""A type is written with a capital if more than this share of its uses inside sentences is."""


@dataclass
class WordCounts:
    """What training needs to know of a corpus, by type."""

    all: Counter[str] = field(default_factory=Counter)
    inside: Counter[str] = field(default_factory=Counter)
    """Uses where no sentence or speech can have started."""
    capitals: Counter[str] = field(default_factory=Counter)
    """Those among ``inside`` that are written with a capital."""

    def add_reference(self, text: str) -> None:
        """Count one text on the reference path."""
        text = normalise(text)
        words = split_normalised(text.lower())
        self.all.update(words)
        written = split_normalised(text)
        if len(written) != len(words):  # a lower-case form with other classes: no evidence of case
            return
        for before, shown, word in zip(written, written[1:], words[1:], strict=False):
            if before not in MAYBE_SENTENCE_START and shown[0].isalpha():
                self.inside[word] += 1
                if shown[0].isupper():
                    self.capitals[word] += 1

    def add(self, texts: Sequence[str]) -> None:
        """Count many texts, on the compiled path where it applies."""
        plain = []
        for text in map(normalise, texts):
            if text.isascii():
                plain.append(text)
            else:
                self.add_reference(text)
        blob = "\n".join(plain).encode("ascii")
        ends = text_ends(plain)
        counted = -1  # where the last token counted so far starts
        codes = np.frombuffer(blob, dtype=np.uint8)
        previous = ord(".")  # the first byte of the token before; a text's first starts a sentence
        for tokens in ascii_tokens(blob):
            if not len(tokens.starts):
                continue
            first = codes[tokens.starts]  # (tokens,)
            before = np.empty_like(first)
            before[0], before[1:] = previous, first[:-1]
            previous = int(first[-1])
            # Ends up to ``counted`` were followed by a token of an earlier window.
            after_end = np.searchsorted(tokens.starts, ends[np.searchsorted(ends, counted) :])
            counted = int(tokens.starts[-1])
            before[after_end[after_end < len(before)]] = ord(".")
            lower = first | 0x20
            is_word = (lower >= ord("a")) & (lower <= ord("z"))
            inside = is_word & ~MAYBE_START_TABLE[before]
            capital = inside & (first <= ord("Z"))
            encoded = tokens.words.dictionary_encode()
            types = encoded.dictionary.to_pylist()
            places = encoded.indices.to_numpy()
            for counter, chosen in (
                (self.all, places),
                (self.inside, places[inside]),
                (self.capitals, places[capital]),
            ):
                counts = np.bincount(chosen, minlength=len(types)).tolist()
                for word, count in zip(types, counts, strict=True):
                    if count:
                        counter[word] += count

    def names(self) -> set[str]:
        """Return the types that are mostly capitalised where no sentence starts."""
        return {
            word
            for word, capitals in self.capitals.items()
            if capitals >= NAME_MIN_COUNT and capitals > NAME_MIN_SHARE * self.inside[word]
        }
