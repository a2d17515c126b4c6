"""A word's merges in plain Python: the reference of the compiled loop, and quicker for a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_KEPT = 1 << 14


class PlainEncoder:
    """Merges words by rank, and remembers some of them."""

    def __init__(
        self, byte_ids: Sequence[int], merges: Mapping[tuple[int, int], tuple[int, int]]
    ) -> None:
        """Take the id of each byte, and rank and id of every merge."""
        self._byte_ids = byte_ids
        self._merges = merges
        self._kept: dict[bytes, list[int]] = {}

    def __call__(self, word: bytes) -> list[int]:
        """Return the ids of a word."""
        ids = self._kept.get(word)
        if ids is None:
            ids = self.merged([self._byte_ids[byte] for byte in word])
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[word] = ids
        return ids

    def merged(self, ids: list[int]) -> list[int]:
        """Merge the pair of the lowest rank, the first from the left, until no pair has one."""
        while len(ids) > 1:
            ranked = [
                (*merge, place)
                for place in range(len(ids) - 1)
                if (merge := self._merges.get((ids[place], ids[place + 1])))
            ]
            if not ranked:
                break
            _, token, place = min(ranked)
            ids = [*ids[:place], token, *ids[place + 2 :]]
        return ids
