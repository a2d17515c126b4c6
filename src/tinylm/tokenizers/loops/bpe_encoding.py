"""Encoding by merges, compiled: words of texts, each known from before or merged by rank.

In a word the pair of the lowest rank is merged first, and of equal ones the first from the left. A
short word looks through the ranks of all its pairs for each merge; a long one keeps them in a heap,
so that its time grows as n log n. Words are kept with their ids in a table of fixed size, which is
emptied when it is full.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tinylm.tokenizers.characters import kinds_of_characters
from tinylm.tokenizers.loops import compiled
from tinylm.tokenizers.loops.counting import chunks
from tinylm.tokenizers.loops.cutting import hash_of, slot_of, word_end, write_kinds
from tinylm.tokenizers.loops.pairs import NO_KEY, key_of, place_of

_SHORT = 48
"""Symbols up to which looking through all ranks takes less time than a heap."""
_KEPT_BYTES = 64
"""Of a word that is kept; longer ones hardly come again."""
_ENTRIES = 1 << 16
_ENTRY_BYTES = 16  # room for this many bytes, and half as many ids, of every word that is kept
_NO_RANK = 1 << 62
_ID_BITS = 32
_ID_MASK = (1 << _ID_BITS) - 1


@compiled
def _rank(left, right, keys, ranks):
    """Return rank and id of a pair's merge in one number, or ``_NO_RANK``."""
    place = place_of(keys, key_of(left, right))
    return ranks[place] if keys[place] != NO_KEY else _NO_RANK


@compiled
def _merge_short(symbols, length, waiting, keys, ranks):
    """Merge the first symbols of an array in place; return how many are left."""
    for i in range(length - 1):
        waiting[i] = _rank(symbols[i], symbols[i + 1], keys, ranks)
    while length > 1:
        first, at = _NO_RANK, -1
        for i in range(length - 1):
            if waiting[i] < first:
                first, at = waiting[i], i
        if at < 0:
            break
        symbols[at] = first & _ID_MASK
        for i in range(at + 1, length - 1):
            symbols[i] = symbols[i + 1]
        for i in range(at, length - 2):
            waiting[i] = waiting[i + 1]
        length -= 1
        if at + 1 < length:
            waiting[at] = _rank(symbols[at], symbols[at + 1], keys, ranks)
        if at > 0:
            waiting[at - 1] = _rank(symbols[at - 1], symbols[at], keys, ranks)
    return length


@compiled
def _push(heap, places, size, rank, place):
    at = size
    while at > 0:
        above = (at - 1) // 2
        if rank > heap[above] or (rank == heap[above] and place > places[above]):
            break
        heap[at], places[at] = heap[above], places[above]
        at = above
    heap[at], places[at] = rank, place


@compiled
def _pop(heap, places, size):
    """Take the first entry off; return its rank and place."""
    rank, place = heap[0], places[0]
    size -= 1
    last_rank, last_place = heap[size], places[size]
    at = 0
    while 2 * at + 1 < size:
        below = 2 * at + 1
        other = below + 1
        if other < size and (
            heap[other] < heap[below]
            or (heap[other] == heap[below] and places[other] < places[below])
        ):
            below = other
        if last_rank < heap[below] or (last_rank == heap[below] and last_place < places[below]):
            break
        heap[at], places[at] = heap[below], places[below]
        at = below
    heap[at], places[at] = last_rank, last_place
    return rank, place


@compiled
def _merge_long(symbols, length, keys, ranks):
    """Merge the first symbols of an array in place, by a heap; return how many are left."""
    before, after = np.arange(-1, length - 1), np.arange(1, length + 1)
    present = np.full(length, _NO_RANK, np.int64)  # rank of the pair that begins at each place
    heap, places, size = np.empty(3 * length, np.int64), np.empty(3 * length, np.int64), 0
    for i in range(length - 1):
        present[i] = _rank(symbols[i], symbols[i + 1], keys, ranks)
        if present[i] < _NO_RANK:
            _push(heap, places, size, present[i], i)
            size += 1
    while size > 0:
        rank, at = _pop(heap, places, size)
        size -= 1
        if present[at] != rank:  # one of the two has been merged meanwhile
            continue
        taken = after[at]
        symbols[at] = rank & _ID_MASK
        after[at] = after[taken]
        present[taken] = -1
        if after[at] < length:
            before[after[at]] = at
        for left in (before[at], at):
            if left < 0:
                continue
            right = after[left]
            present[left] = _NO_RANK
            if right < length:
                present[left] = _rank(symbols[left], symbols[right], keys, ranks)
                if present[left] < _NO_RANK:
                    _push(heap, places, size, present[left], left)
                    size += 1
    at, written = 0, 0
    while at < length:
        symbols[written] = symbols[at]
        written += 1
        at = after[at]
    return written


@compiled
def merge(symbols, length, waiting, keys, ranks):
    """Merge the first symbols of an array in place; return how many are left.

    Args:
        symbols: int32, ids.
        length: how many symbols there are.
        waiting: (_SHORT,) int64, room to work in.
        keys: of the pairs, a table of ``pairs``.
        ranks: of the merges, and the ids that they make in the lower bits.
    """
    if length <= _SHORT:
        return _merge_short(symbols, length, waiting, keys, ranks)
    return _merge_long(symbols, length, keys, ranks)


@compiled
def _encode(text, kinds, bounds, rule, merges, kept, ids, id_bounds):
    """Write the ids of texts one behind the other, and their bounds.

    Args:
        text: (bytes,) uint8, UTF-8 of the texts.
        kinds: of the bytes.
        bounds: (texts + 1,) of the texts in it.
        rule: of ``splitting.RULES``.
        merges: ids of the bytes, keys and ranks.
        kept: the table of words.
        ids: (bytes,) int32, written to.
        id_bounds: (texts + 1,) written to.
    """
    byte_ids, keys, ranks = merges
    slots, hashes, starts, lengths, content, id_starts, id_lengths, kept_ids, state = kept
    waiting = np.empty(_SHORT, np.int64)
    written = 0
    id_bounds[0] = 0
    for row in range(len(bounds) - 1):
        start, stop = bounds[row], bounds[row + 1]
        while start < stop:
            end = word_end(rule, text, kinds, start, stop)
            value = hash_of(text, start, end)
            place = slot_of(text, start, end, value, slots, hashes, starts, lengths, content)
            entry = slots[place]
            if entry >= 0:
                begin = id_starts[entry]
                for k in range(id_lengths[entry]):
                    ids[written + k] = kept_ids[begin + k]
                written += id_lengths[entry]
                start = end
                continue
            for k in range(start, end):
                ids[written + k - start] = byte_ids[text[k]]
            count = merge(ids[written:], end - start, waiting, keys, ranks)
            if end - start <= _KEPT_BYTES:
                entry, filled, kept_count = state
                if (
                    entry == len(hashes)
                    or filled + end - start > len(content)
                    or kept_count + count > len(kept_ids)
                ):
                    slots[:] = -1
                    entry, filled, kept_count = 0, 0, 0
                    place = value & np.uint64(len(slots) - 1)
                content[filled : filled + end - start] = text[start:end]
                kept_ids[kept_count : kept_count + count] = ids[written : written + count]
                slots[place] = entry
                hashes[entry], starts[entry], lengths[entry] = value, filled, end - start
                id_starts[entry], id_lengths[entry] = kept_count, count
                state[0], state[1], state[2] = entry + 1, filled + end - start, kept_count + count
            written += count
            start = end
        id_bounds[row + 1] = written
    return written


class Encoder:
    """Encodes many texts with a table of words that stays from one call to the next."""

    def __init__(
        self, rule: int, byte_ids: Sequence[int], merges: Mapping[tuple[int, int], tuple[int, int]]
    ) -> None:
        """Take the rule of splitting, the id of each byte, and rank and id of every merge."""
        self._rule = rule
        size = 1024
        while size < 4 * len(merges):
            size *= 2
        keys, ranks = np.full(size, NO_KEY, np.int64), np.empty(size, np.int64)
        self._merges = (np.array(byte_ids, np.int32), keys, ranks)
        if merges:
            pairs = np.array(list(merges), np.int64)
            made = np.array(list(merges.values()), np.int64)
            _put(keys, ranks, pairs, made)
        self._kept = (
            np.full(2 * _ENTRIES, -1, np.int32),  # numbers of entries by hash
            np.empty(_ENTRIES, np.uint64),  # hashes
            *(np.empty(_ENTRIES, np.int32) for _ in range(2)),  # where each word begins, its length
            np.empty(_ENTRIES * _ENTRY_BYTES, np.uint8),  # the bytes of all words
            *(np.empty(_ENTRIES, np.int32) for _ in range(2)),  # where its ids begin, their number
            np.empty(_ENTRIES * _ENTRY_BYTES // 2, np.int32),  # the ids of all words
            np.zeros(3, np.int64),  # numbers of entries, of bytes and of ids
        )

    def __call__(self, texts: Iterable[str]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return all ids in one array, (tokens,), and the bounds of each text, (texts + 1,)."""
        parts: list[npt.NDArray[np.int32]] = [np.empty(0, np.int32)]
        ends: list[npt.NDArray[np.int64]] = [np.zeros(1, np.int64)]
        total = 0
        for content, bounds in chunks(texts):
            kinds = np.empty_like(content)
            write_kinds(content, kinds_of_characters(), kinds)
            ids, id_bounds = np.empty(len(content), np.int32), np.empty_like(bounds)
            count = _encode(
                content, kinds, bounds, self._rule, self._merges, self._kept, ids, id_bounds
            )
            parts.append(ids[:count].copy())
            ends.append(id_bounds[1:] + total)
            total += int(count)
        return np.concatenate(parts), np.concatenate(ends)


@compiled
def _put(keys, ranks, pairs, made):
    """Fill a table of merges: (merges, 2) pairs, and (merges, 2) rank and id of each."""
    for i in range(len(pairs)):
        key = key_of(pairs[i, 0], pairs[i, 1])
        place = place_of(keys, key)
        keys[place] = key
        ranks[place] = (made[i, 0] << _ID_BITS) | made[i, 1]
