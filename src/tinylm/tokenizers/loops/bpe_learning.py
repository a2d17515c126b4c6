"""Learning merges from words and their counts, compiled.

Sennrich et al. (2016), algorithm 1, with counts that are kept up to date: a merge changes only the
words that hold its pair, and those that a pair has come into wait with it in a heap. An entry of
the heap whose pair has become rarer meanwhile goes back with its new count. So a merge costs what
it changes, and not a pass over all words.

Order and ties are those of Hugging Face ``tokenizers`` (``BpeTrainer``), so that merges and ids are
the same: the higher count first, then the smaller pair of ids; a merge that makes a token which is
there already takes its id; an entry's words are those in which its pair was new when it was put
there, and the count of a pair that was merged stays, which matters where the same token comes from
two pairs (runs such as ``-----``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tinylm.tokenizers.loops import compiled
from tinylm.tokenizers.loops.cutting import hash_of, slot_of
from tinylm.tokenizers.loops.pairs import NO_KEY, grown, key_of, place_of

_PAIRS, _NODES, _FREE, _TOUCHED = range(4)
"""Places in the state: numbers of pairs and of nodes of lists, the first free node, and the number
of pairs that have come into words with the present merge."""


@compiled
def _before(count, key, other_count, other_key):
    """Return whether an entry of the heap comes before another."""
    return count > other_count or (count == other_count and key < other_key)


@compiled
def _push(heap, size, count, pair, head, keys):
    """Add an entry to the heap: count, pair and the first node of its words."""
    at = size
    while at > 0:
        above = (at - 1) // 2
        if not _before(count, keys[pair], heap[above, 0], keys[heap[above, 1]]):
            break
        heap[at] = heap[above]
        at = above
    heap[at, 0], heap[at, 1], heap[at, 2] = count, pair, head


@compiled
def _pop(heap, size, keys):
    """Take the first entry out of the heap, which is left in its place behind the others."""
    count, pair, head = heap[0]
    size -= 1
    last_count, last_pair, last_head = heap[size]
    last_key = keys[last_pair]
    at = 0
    while 2 * at + 1 < size:
        below = 2 * at + 1
        if below + 1 < size and _before(
            heap[below + 1, 0], keys[heap[below + 1, 1]], heap[below, 0], keys[heap[below, 1]]
        ):
            below += 1
        if not _before(heap[below, 0], keys[heap[below, 1]], last_count, last_key):
            break
        heap[at] = heap[below]
        at = below
    heap[at, 0], heap[at, 1], heap[at, 2] = last_count, last_pair, last_head
    return count, pair, head


@compiled
def _change(key, amount, word, arrays, state):
    """Change the count of a pair; where it grows, the word waits with the pair."""
    table, numbers, keys, counts, heads, nodes, touched = arrays
    place = place_of(table, key)
    if table[place] == NO_KEY:
        pair = state[_PAIRS]
        state[_PAIRS] += 1
        table[place], numbers[place] = key, pair
        keys[pair], counts[pair], heads[pair] = key, 0, -1
    pair = numbers[place]
    counts[pair] += amount
    if amount > 0:
        head = heads[pair]
        if head < 0:
            touched[state[_TOUCHED]] = pair
            state[_TOUCHED] += 1
        elif nodes[head, 0] == word:
            return
        node = state[_FREE]
        if node >= 0:
            state[_FREE] = nodes[node, 1]
        else:
            node = state[_NODES]
            state[_NODES] += 1
        nodes[node, 0], nodes[node, 1] = word, head
        heads[pair] = node


@compiled
def _room(length, arrays, state):
    """Return the arrays, grown where a word of that length could fill them."""
    table, numbers, keys, counts, heads, nodes, touched = arrays
    pairs = state[_PAIRS] + 2 * length
    if pairs > len(keys):
        size = 2 * len(keys) + pairs
        keys, counts, heads = grown(keys, size), grown(counts, size), grown(heads, size)
        touched = grown(touched, size)
    if 2 * pairs > len(table):
        size = len(table)
        while size < 4 * pairs:
            size *= 2
        table, numbers = np.full(size, NO_KEY, np.int64), np.empty(size, np.int32)
        for pair in range(state[_PAIRS]):
            place = place_of(table, keys[pair])
            table[place], numbers[place] = keys[pair], pair
    wanted = state[_NODES] + 2 * length
    if wanted > len(nodes):
        more = np.empty((2 * len(nodes) + wanted, 2), np.int32)
        more[: len(nodes)] = nodes
        nodes = more
    return table, numbers, keys, counts, heads, nodes, touched


@compiled
def _merge(symbols, start, length, left, right, token, amount, word, arrays, state):
    """Merge a pair in one word, from the left, and change the counts of the pairs beside it."""
    begin, read, written = start, start, start
    end = start + length
    while read < end:
        if symbols[read] == left and read + 1 < end and symbols[read + 1] == right:
            if written > begin:
                before = symbols[written - 1]
                _change(key_of(before, left), -amount, word, arrays, state)
                _change(key_of(before, token), amount, word, arrays, state)
            if read + 2 < end:
                after = symbols[read + 2]
                _change(key_of(right, after), -amount, word, arrays, state)
                _change(key_of(token, after), amount, word, arrays, state)
            symbols[written] = token
            read += 2
        else:
            symbols[written] = symbols[read]
            read += 1
        written += 1
    return written - start


@compiled
def _learn(symbols, bounds, uses, spelling, spelled, special, wanted, least, left_out):
    """Return the merges, (merges, 3): the ids of a pair and of what it becomes.

    Args:
        symbols: (symbols,) int32, the words' ids; they are merged in place.
        bounds: (words + 1,) of the words.
        uses: (words,) how often each stands in the texts.
        spelling: (bytes,) uint8, of the tokens that there are, in the order of ids.
        spelled: (tokens + 1,) bounds of it.
        special: number of special tokens, which come first and which no pair becomes.
        wanted: number of tokens with which to stop.
        least: count of a pair from which it is merged.
        left_out: bytes of the right one of a pair that what it becomes is spelled without.
    """
    tokens = len(spelled) - 1
    token_starts, token_lengths = np.empty(wanted, np.int64), np.empty(wanted, np.int32)
    hashes = np.empty(wanted, np.uint64)
    size = 1024
    while size < 2 * wanted:
        size *= 2
    slots = np.full(size, -1, np.int32)
    for token in range(tokens):
        start, end = spelled[token], spelled[token + 1]
        token_starts[token], token_lengths[token] = start, end - start
        hashes[token] = hash_of(spelling, start, end)
        place = slot_of(
            spelling,
            start,
            end,
            hashes[token],
            slots,
            hashes,
            token_starts,
            token_lengths,
            spelling,
        )
        slots[place] = token
    filled = spelled[tokens]

    state = np.array([0, 0, -1, 0], np.int64)
    arrays = (
        np.full(1 << 14, NO_KEY, np.int64),  # keys by hash
        np.empty(1 << 14, np.int32),  # numbers of their pairs
        np.empty(1 << 12, np.int64),  # keys of the pairs
        np.empty(1 << 12, np.int64),  # counts of the pairs
        np.empty(1 << 12, np.int32),  # first node of the words that a pair has come into
        np.empty((1 << 14, 2), np.int32),  # nodes: word and next node
        np.empty(1 << 12, np.int32),  # pairs that have come into words
    )
    lengths = np.empty(len(uses), np.int64)
    for word in range(len(uses)):
        start, end = bounds[word], bounds[word + 1]
        lengths[word] = end - start
        arrays = _room(end - start, arrays, state)
        for i in range(start, end - 1):
            _change(key_of(symbols[i], symbols[i + 1]), uses[word], word, arrays, state)

    heap, waiting = np.empty((2 * state[_PAIRS] + 16, 3), np.int64), 0
    merges, done = np.empty((wanted, 3), np.int32), 0
    while True:
        _, _, keys, counts, heads, nodes, touched = arrays
        if waiting + state[_TOUCHED] > len(heap):
            more = np.empty((2 * (waiting + state[_TOUCHED]), 3), np.int64)
            more[:waiting] = heap[:waiting]
            heap = more
        for i in range(state[_TOUCHED]):
            pair = touched[i]
            if counts[pair] > 0:
                _push(heap, waiting, counts[pair], pair, heads[pair], keys)
                waiting += 1
            heads[pair] = -1
        state[_TOUCHED] = 0

        count, pair, head = 0, 0, -1
        while waiting > 0:
            count, pair, head = _pop(heap, waiting, keys)
            waiting -= 1
            if count == counts[pair]:
                break
            _push(heap, waiting, counts[pair], pair, head, keys)
            waiting += 1
            count = 0
        if tokens >= wanted or count < max(least, 1):
            break

        left, right = np.int32(keys[pair] >> 32), np.int32(keys[pair] & 0xFFFFFFFF)
        length = np.int64(token_lengths[left]) + token_lengths[right] - left_out
        if filled + length > len(spelling):
            spelling = grown(spelling, 2 * len(spelling) + length)
        end = filled
        for part in (left, right):
            for k in range(left_out if end > filled else 0, token_lengths[part]):
                spelling[end] = spelling[token_starts[part] + k]
                end += 1
        value = hash_of(spelling, filled, end)
        place = slot_of(
            spelling, filled, end, value, slots, hashes, token_starts, token_lengths, spelling
        )
        token = slots[place]
        if 0 <= token < special:
            continue
        if token < 0:
            token = tokens
            slots[place] = token
            hashes[token], token_starts[token], token_lengths[token] = value, filled, length
            tokens, filled = tokens + 1, end
        if done == len(merges):
            more_merges = np.empty((2 * done, 3), np.int32)
            more_merges[:done] = merges
            merges = more_merges
        merges[done, 0], merges[done, 1], merges[done, 2] = left, right, token
        done += 1
        while head >= 0:
            word, after = nodes[head, 0], nodes[head, 1]
            nodes[head, 1] = state[_FREE]
            state[_FREE] = head
            head = after
            arrays = _room(lengths[word], arrays, state)
            nodes = arrays[5]
            begin, length = bounds[word], lengths[word]
            lengths[word] = _merge(
                symbols, begin, length, left, right, token, uses[word], word, arrays, state
            )
    return merges[:done]


def learn(
    symbols: npt.NDArray[np.int32],
    bounds: npt.NDArray[np.int64],
    uses: npt.NDArray[np.int64],
    tokens: Sequence[bytes],
    special: int,
    wanted: int,
    least: int,
    left_out: int = 0,
) -> list[tuple[int, int, int]]:
    """Learn merges from words.

    Args:
        symbols: the ids of all words, each below the number of tokens; they are merged in place.
        bounds: of the words, (words + 1,).
        uses: how often each stands in the texts, (words,).
        tokens: what there is before the first merge, special tokens first; none is empty.
        special: how many of them are special; a pair that spells the name of one is left apart.
        wanted: number of tokens with which to stop.
        least: count of a pair from which it is merged.
        left_out: how many bytes of the right one of a pair what it becomes is spelled without.

    Returns:
        The ids of each pair and of what it becomes, in the order of the merges. A pair may come
        twice, where what it becomes has other pairs too: the last place is its rank.
    """
    spelled = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
    spelling = np.frombuffer(b"".join(tokens), np.uint8).copy()
    merges = _learn(symbols, bounds, uses, spelling, spelled, special, wanted, least, left_out)
    return [(int(left), int(right), int(token)) for left, right, token in merges]
