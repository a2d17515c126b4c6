"""A word's merges in plain Python: the reference of the compiled loop, and quicker for a prompt."""

from __future__ import annotations

import heapq
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

    def merged(self, ids: Sequence[int]) -> list[int]:
        """Merge the pair of the lowest rank, the first from the left, until no pair has one.

        Pairs wait in a heap by rank and place, and one that has changed meanwhile is passed over,
        so that a word of n bytes takes time in proportion to n log n.
        """
        ids = list(ids)
        length = len(ids)
        after = list(range(1, length + 1))
        before = list(range(-1, length - 1))
        waiting: dict[int, tuple[int, int]] = {}  # by place: rank and id of its pair
        for place in range(length - 1):
            merge = self._merges.get((ids[place], ids[place + 1]))
            if merge is not None:
                waiting[place] = merge
        heap = [(rank, place) for place, (rank, _) in waiting.items()]
        heapq.heapify(heap)
        while heap:
            rank, place = heapq.heappop(heap)
            if waiting.get(place, (None, None))[0] != rank:
                continue
            taken = after[place]
            ids[place] = waiting[place][1]
            after[place] = after[taken]
            waiting.pop(taken, None)
            if after[place] < length:
                before[after[place]] = place
            for left in (before[place], place):
                waiting.pop(left, None)
                if left < 0 or after[left] == length:
                    continue
                merge = self._merges.get((ids[left], ids[after[left]]))
                if merge is not None:
                    waiting[left] = merge
                    heapq.heappush(heap, (merge[0], left))
        result, place = [], 0
        while place < length:
            result.append(ids[place])
            place = after[place]
        return result
