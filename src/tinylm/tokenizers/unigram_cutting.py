"""A word cut into pieces by a unigram model, in plain Python."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from tinylm.tokenizers.base import UNK_ID
from tinylm.tokenizers.lattice import Edge


class Cutter:
    """Cuts words in the most probable way, and gives all others as edges of a lattice.

    Args:
        pieces: log-probability and id of each.
        unknown_score: log-probability of a character that is no piece.
        first_byte: id of the first of 256 bytes, which unknown characters become; None: they are
            ``<unk>``.
    """

    def __init__(
        self,
        pieces: Mapping[str, tuple[float, int]],
        unknown_score: float,
        first_byte: int | None,
    ) -> None:
        self._pieces = pieces
        self._unknown_score = unknown_score
        self._first_byte = first_byte
        self._longest = max(map(len, pieces))

    def edges(self, word: str, place: int) -> Iterator[Edge]:
        """Yield the pieces of a word that begins at a place of a text."""
        for start in range(len(word)):
            here = place + start
            if word[start] not in self._pieces:
                yield Edge(here, here + 1, UNK_ID, self._unknown_score)
            for end in range(start + 1, min(len(word), start + self._longest) + 1):
                piece = self._pieces.get(word[start:end])
                if piece is not None:
                    yield Edge(here, place + end, piece[1], piece[0])

    def __call__(self, content: bytes) -> list[int]:
        """Return the ids of a word: Viterbi as in ``Lattice.best``, without the lattice."""
        word = content.decode()
        length, longest, pieces = len(word), self._longest, self._pieces
        best = [-math.inf] * (length + 1)
        best[0] = 0.0
        starts, ids = [0] * (length + 1), [UNK_ID] * (length + 1)
        for start in range(length):
            here = best[start]
            if word[start] not in pieces and here + self._unknown_score > best[start + 1]:
                best[start + 1] = here + self._unknown_score
                starts[start + 1], ids[start + 1] = start, UNK_ID
            for end in range(start + 1, min(length, start + longest) + 1):
                piece = pieces.get(word[start:end])
                if piece is not None and here + piece[0] > best[end]:
                    best[end], starts[end], ids[end] = here + piece[0], start, piece[1]
        path: list[tuple[int, int, int]] = []
        place = length
        while place:
            path.append((ids[place], starts[place], place))
            place = starts[place]
        return self.with_unknown(word, path[::-1])

    def with_unknown(self, word: str, path: Sequence[tuple[int, int, int]]) -> list[int]:
        """Return the ids of a segmentation of a word.

        Args:
            word: the word.
            path: id, start and end of each piece; those with the id of ``<unk>`` become bytes, or
                one ``<unk>`` if they stand in a row.
        """
        ids: list[int] = []
        fused = False
        for index, start, end in path:
            if index != UNK_ID:
                ids.append(index)
            elif self._first_byte is not None:
                ids += [self._first_byte + byte for byte in word[start:end].encode()]
            elif not fused:
                ids.append(UNK_ID)
            fused = index == UNK_ID
        return ids
