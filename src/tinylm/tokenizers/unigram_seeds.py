"""What training of a unigram model begins with: known characters and frequent substrings.

Substrings are found from the sorted ends of all words, in the order of a suffix array (Manber and
Myers 1993): what begins alike stands together there, so that a substring is a run of places, and
its uses are a difference of sums. Memory is some 60 bytes for each character of the different
words, and 14 for each substring that is frequent enough; there is no table of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinylm.tokenizers.counted_words import Codes, Ints, Words, codes_of, text_of
from tinylm.tokenizers.loops import unigram_learning as loops

LONGEST_WORD = 256
"""Training cuts longer words into parts of this many characters."""
_UNICODE = 0x110000


@dataclass(frozen=True)
class Pieces:
    """Strings, each of which stands somewhere in a row of characters."""

    codes: Codes
    """The code points, (characters,)."""
    starts: Ints
    """Where each begins, (pieces,)."""
    sizes: Ints
    """How many characters each has, (pieces,)."""

    @classmethod
    def of(cls, pieces: Sequence[str]) -> Pieces:
        """Return pieces that are given as strings."""
        sizes = np.array([len(piece) for piece in pieces], np.int64)
        return cls(codes_of("".join(pieces)), np.cumsum(sizes) - sizes, sizes)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> str:
        start, size = self.starts[number], self.sizes[number]
        return text_of(self.codes[start : start + size])


def known_parts(words: Words, least: int) -> tuple[int, Words]:
    """Return the number of characters that are frequent enough, and words without others.

    Args:
        words: of the texts.
        least: how often a character must stand there.

    Returns:
        The number, and the parts of words between unknown characters, of ``LONGEST_WORD``
        characters at most. Parts of several words may be the same.
    """
    uses = np.bincount(words.codes, np.repeat(words.uses, words.sizes), _UNICODE)
    known = uses >= least
    given = (words.codes, words.bounds, known, LONGEST_WORD)
    empty = np.empty(0, np.int64)
    count = loops.write_parts(*given, False, empty, empty)
    ends, owners = np.empty(count, np.int64), np.empty(count, np.int64)
    loops.write_parts(*given, True, ends, owners)
    parts = Words(words.codes[known[words.codes]], np.concatenate(([0], ends)), words.uses[owners])
    return int(known.sum()), parts


def seeds(words: Words, most: int, longest: int, least: int) -> tuple[Pieces, Ints]:
    """Return the pieces at the start, and the uses of each times its length, (pieces,).

    All characters, by code point, then substrings by that number, the greatest first, ties by code
    points.

    Args:
        words: of ``LONGEST_WORD`` characters at most.
        most: how many pieces, if there are not more characters.
        longest: most characters of a piece.
        least: uses of a piece that is longer than a character.
    """
    longest = min(longest, LONGEST_WORD)
    places = np.arange(len(words.codes))
    rest = (np.repeat(words.bounds[1:], words.sizes) - places).astype(np.int32)
    order = _order(words.codes, rest, longest)
    sums = np.concatenate(([0], np.cumsum(np.repeat(words.uses, words.sizes)[order])))
    given = (words.codes, rest, order, sums, longest, least)
    nothing = (np.empty(0, np.int32), np.empty(0, np.int16), np.empty(0, np.int64))
    count = loops.write_substrings(*given, False, *nothing)
    firsts, sizes = np.empty(count, np.int32), np.empty(count, np.int16)
    weights = np.empty(count, np.int64)
    loops.write_substrings(*given, True, firsts, sizes, weights)
    single = np.flatnonzero(sizes == 1)
    longer = np.flatnonzero(sizes > 1)
    most = max(most - len(single), 0)
    if 0 < most < len(longer):  # not all need be sorted
        bound = len(longer) - most
        longer = longer[weights[longer] >= np.partition(weights[longer], bound)[bound]]
    # By code points: by the first place in the order, then by length.
    longer = longer[np.lexsort((sizes[longer], firsts[longer], -weights[longer]))][:most]
    chosen = np.concatenate((single, longer))
    pieces = Pieces(words.codes, order[firsts[chosen]], sizes[chosen].astype(np.int64))
    return pieces, weights[chosen]


def _order(codes: Codes, rest: npt.NDArray[np.int32], longest: int) -> Ints:
    """Return all places, sorted by the first ``longest`` characters from there to the word's end.

    By ranks of what is twice as long each time (Karp, Miller and Rosenberg 1972).
    """
    present = np.zeros(_UNICODE, np.int64)
    present[codes] = 1
    rank = np.cumsum(present)[codes]
    step = 1
    order = np.argsort(rank)
    while step < longest and len(codes):
        key = rank * (int(rank.max()) + 1)
        key[:-step] += np.where(rest[:-step] > step, rank[step:], 0)
        order = np.argsort(key)
        changes = np.diff(key[order], prepend=-1) != 0
        rank[order] = np.cumsum(changes)
        step *= 2
        if rank.max() == len(codes):
            break
    return order
