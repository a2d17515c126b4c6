"""How often each word stands in texts, compiled."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinylm.tokenizers.characters import BETWEEN, kinds_of_characters
from tinylm.tokenizers.loops import compiled
from tinylm.tokenizers.loops.cutting import hash_of, slot_of, word_end, write_kinds
from tinylm.tokenizers.utf8 import to_bytes

CHUNK_BYTES = 1 << 20
"""Texts are worked on in pieces of about this size, so that their bytes stay in the cache."""
_ENTRIES, _FILLED = 0, 1


@compiled
def _count(text, kinds, bounds, rule, at, slots, hashes, starts, lengths, counts, content, state):
    """Count words from the place ``at`` on; return where it stopped, for the table is full.

    ``at`` is the number of the text and the place of the byte, ``state`` the numbers of entries and
    of bytes of ``content``.
    """
    row, start = at
    while row < len(bounds) - 1:
        stop = bounds[row + 1]
        while start < stop:
            if kinds[start] == BETWEEN:
                start += 1
                continue
            end = word_end(rule, text, kinds, start, stop)
            value = hash_of(text, start, end)
            place = slot_of(text, start, end, value, slots, hashes, starts, lengths, content)
            entry = slots[place]
            if entry < 0:
                entry, filled = state[_ENTRIES], state[_FILLED]
                if entry == len(counts) or filled + end - start > len(content):
                    return row, start
                content[filled : filled + end - start] = text[start:end]
                slots[place] = entry
                hashes[entry], starts[entry], lengths[entry] = value, filled, end - start
                counts[entry] = 0
                state[_ENTRIES], state[_FILLED] = entry + 1, filled + end - start
            counts[entry] += 1
            start = end
        row += 1
    return row, start


@compiled
def _fill(slots, hashes, entries):
    """Put all entries into a table that is empty."""
    mask = np.uint64(len(slots) - 1)
    for entry in range(entries):
        place = hashes[entry] & mask
        while slots[place] >= 0:
            place = (place + np.uint64(1)) & mask
        slots[place] = entry


class WordTable:
    """Words of texts and their counts; memory grows with the number of different words."""

    def __init__(
        self,
        rule: int,
        kinds: npt.NDArray[np.uint8] | None = None,
        encode: Callable[[str], bytes] = to_bytes,
    ) -> None:
        """Start empty.

        Args:
            rule: of ``splitting``.
            kinds: that the rule knows, of each code point; empty: those of ``characters``.
            encode: gives the UTF-8 of a text, or of what is counted in place of it.
        """
        self._rule = rule
        self._kinds = kinds_of_characters() if kinds is None else kinds
        self._encode = encode
        self._state = np.zeros(2, np.int64)
        self._slots = np.full(1 << 15, -1, np.int32)
        size = len(self._slots) // 2
        self._hashes = np.empty(size, np.uint64)
        self._starts = np.empty(size, np.int64)
        self._lengths = np.empty(size, np.int32)
        self._counts = np.empty(size, np.int64)
        self._content = np.empty(1 << 18, np.uint8)
        self._others: dict[bytes, int] = {}

    def add(self, texts: Iterable[str]) -> None:
        """Count the words of texts."""
        for content, bounds in chunks(texts, self._encode):
            kinds = np.empty_like(content)
            write_kinds(content, self._kinds, kinds)
            at = (0, 0)
            while at[0] < len(bounds) - 1:
                at = _count(
                    *(content, kinds, bounds, self._rule, at, self._slots, self._hashes),
                    *(self._starts, self._lengths, self._counts, self._content, self._state),
                )
                if at[0] < len(bounds) - 1:
                    self._grow(int(bounds[-1]))

    def _grow(self, bytes_wanted: int) -> None:
        entries, filled = self._state.tolist()
        if entries == len(self._counts):
            self._slots = np.full(2 * len(self._slots), -1, np.int32)
            for name in ("_hashes", "_starts", "_lengths", "_counts"):
                setattr(self, name, np.resize(getattr(self, name), 2 * entries))
            _fill(self._slots, self._hashes, entries)
        if filled + bytes_wanted > len(self._content):
            self._content = np.resize(self._content, 2 * len(self._content) + bytes_wanted)

    def words(
        self,
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the bytes of all words, their bounds, (words + 1,), and how often each stands."""
        entries, filled = self._state.tolist()
        bounds = np.append(self._starts[:entries], filled)
        content, counts = self._content[:filled], self._counts[:entries]
        if not self._others:
            return content, bounds, counts
        whole, together = content.tobytes(), dict[bytes, int]()
        for (start, end), count in zip(itertools.pairwise(bounds.tolist()), counts, strict=True):
            together[whole[start:end]] = int(count)
        for word, count in self._others.items():
            together[word] = together.get(word, 0) + count
        content, bounds = joined(list(together))
        return content, bounds, np.array(list(together.values()), np.int64)

    def packed(self) -> dict[str, Any]:
        """Return the counts as JSON values: a character a byte, and numbers."""
        content, bounds, counts = self.words()
        return {
            "content": content.tobytes().decode("latin-1"),
            "bounds": bounds.tolist(),
            "counts": counts.tolist(),
        }

    def add_packed(self, packed: dict[str, Any]) -> None:
        """Add the counts of other texts, whose words come behind those that are there."""
        whole = packed["content"].encode("latin-1")
        pairs = zip(itertools.pairwise(packed["bounds"]), packed["counts"], strict=True)
        for (start, end), count in pairs:
            word = whole[start:end]
            self._others[word] = self._others.get(word, 0) + count


def chunks(
    texts: Iterable[str], encode: Callable[[str], bytes] = to_bytes
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """Yield UTF-8 of texts, some at a time, and its bounds, (texts + 1,)."""
    batch: list[bytes] = []
    size = 0
    for text in texts:
        batch.append(encode(text))
        size += len(batch[-1])
        if size >= CHUNK_BYTES:
            yield joined(batch)
            batch, size = [], 0
    if batch:
        yield joined(batch)


def joined(batch: Sequence[bytes]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return texts' bytes in one array and its bounds, (texts + 1,)."""
    content = np.frombuffer(b"".join(batch), np.uint8)
    return content, np.cumsum([0, *map(len, batch)], dtype=np.int64)


def lists(
    ids: npt.NDArray[np.int32], bounds: npt.NDArray[np.int64], integers: npt.NDArray[np.object_]
) -> list[list[int]]:
    """Return the ids of each text as a list.

    Args:
        ids: (tokens,).
        bounds: (texts + 1,).
        integers: one Python integer a type, shared by all its uses: ``tolist`` of numbers would
            make one a token.
    """
    shared = integers[ids]
    return [shared[start:end].tolist() for start, end in itertools.pairwise(bounds.tolist())]
