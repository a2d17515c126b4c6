"""Encoding by words, compiled: each word of many texts is known again by its number.

A tokenizer that cuts words by what is slow in Python need do so once a word: the loop here finds
the words' ends, looks each up in a table, and calls for the ids of those that are not there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tinylm.tokenizers.characters import BETWEEN, kinds_of_characters
from tinylm.tokenizers.loops import compiled
from tinylm.tokenizers.loops.counting import chunks
from tinylm.tokenizers.loops.cutting import hash_of, slot_of, word_end, write_kinds
from tinylm.tokenizers.utf8 import to_bytes

_ENTRIES = 1 << 16
_ENTRY_BYTES = 24  # room for this many bytes of every word
_ENTRY, _FILLED, _WORDS = 0, 1, 2


@compiled
def _number(text, kinds, bounds, rule, at, table, numbers, word_bounds, state):
    """Write the number of each word from ``at`` on; return where it stopped, for lack of room.

    Args:
        text: (bytes,) uint8, UTF-8 of the texts.
        kinds: of the bytes.
        bounds: (texts + 1,) of the texts in it.
        rule: of ``splitting.RULES``.
        at: number of the text and place of the byte.
        table: slots, and hashes, starts, lengths and bytes of the words that have a number.
        numbers: (bytes,) int32, written to.
        word_bounds: (texts + 1,) how many words stand before each text, written to.
        state: how many words have a number, how many bytes these have, and how many are written.
    """
    slots, hashes, starts, lengths, content = table
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
                entry, filled = state[_ENTRY], state[_FILLED]
                if entry == len(hashes) or filled + end - start > len(content):
                    return row, start
                content[filled : filled + end - start] = text[start:end]
                slots[place] = entry
                hashes[entry], starts[entry], lengths[entry] = value, filled, end - start
                state[_ENTRY], state[_FILLED] = entry + 1, filled + end - start
            numbers[state[_WORDS]] = entry
            state[_WORDS] += 1
            start = end
        row += 1
        word_bounds[row] = state[_WORDS]
    return row, start


@compiled
def _gather(numbers, id_starts, kept_ids, ids, word_ends):
    """Write the ids of words one behind the other, and where those of each end."""
    written = 0
    for i in range(len(numbers)):
        for k in range(id_starts[numbers[i]], id_starts[numbers[i] + 1]):
            ids[written] = kept_ids[k]
            written += 1
        word_ends[i + 1] = written


class Encoder:
    """Encodes many texts with a table of words that stays from one call to the next.

    Args:
        rule: of ``splitting``.
        encode_word: returns the ids of a word.
        kinds: that the rule knows, of each code point; empty: those of ``characters``.
        encode: gives the UTF-8 of a text, or of what is cut in place of it.
    """

    def __init__(
        self,
        rule: int,
        encode_word: Callable[[bytes], Sequence[int]],
        kinds: npt.NDArray[np.uint8] | None = None,
        encode: Callable[[str], bytes] = to_bytes,
    ) -> None:
        self._rule = rule
        self._kinds = kinds_of_characters() if kinds is None else kinds
        self._encode = encode
        self._encode_word = encode_word
        self._start(_ENTRIES * _ENTRY_BYTES)

    def _start(self, size: int) -> None:
        """Begin with an empty table with room for ``size`` bytes of words."""
        self._table = (
            np.full(2 * _ENTRIES, -1, np.int32),
            np.empty(_ENTRIES, np.uint64),
            np.empty(_ENTRIES, np.int64),
            np.empty(_ENTRIES, np.int32),
            np.empty(size, np.uint8),
        )
        self._state = np.zeros(3, np.int64)
        self._id_starts = np.zeros(1, np.int64)
        self._ids = np.empty(0, np.int32)

    def __call__(self, texts: Iterable[str]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return all ids in one array, (tokens,), and the bounds of each text, (texts + 1,)."""
        parts: list[npt.NDArray[np.int32]] = [np.empty(0, np.int32)]
        ends: list[npt.NDArray[np.int64]] = [np.zeros(1, np.int64)]
        total = 0
        for content, bounds in chunks(texts, self._encode):
            kinds = np.empty_like(content)
            write_kinds(content, self._kinds, kinds)
            numbers = np.empty(len(content), np.int32)
            word_bounds = np.zeros(len(bounds), np.int64)
            at, base = (0, 0), 0
            id_bounds = np.zeros(len(bounds), np.int64)
            while at[0] < len(bounds) - 1:
                first = at[0]
                self._state[_WORDS] = 0
                word_bounds[first] = 0
                at = _number(
                    *(content, kinds, bounds, self._rule, at, self._table),
                    *(numbers, word_bounds, self._state),
                )
                part, word_ends = self._ids_of(numbers[: self._state[_WORDS]])
                parts.append(part)
                rows = slice(first + 1, at[0] + 1)
                id_bounds[rows] = base + word_ends[word_bounds[rows]]
                base += len(part)
                if at[0] < len(bounds) - 1:  # the table is full
                    self._start(max(len(self._table[-1]), int(bounds[-1])))
            ends.append(id_bounds[1:] + total)
            total += base
        return np.concatenate(parts), np.concatenate(ends)

    def _ids_of(
        self, numbers: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return the ids of words by their numbers, and where each word's begin, (words + 1,)."""
        _, _, starts, lengths, content = self._table
        new: list[Sequence[int]] = []
        for entry in range(len(self._id_starts) - 1, int(self._state[_ENTRY])):
            start = int(starts[entry])
            word = content[start : start + int(lengths[entry])].tobytes()
            new.append(self._encode_word(word))
        if new:
            more = np.fromiter(itertools.chain.from_iterable(new), np.int32)
            ends = len(self._ids) + np.cumsum([len(ids) for ids in new], dtype=np.int64)
            self._ids = np.concatenate([self._ids, more])
            self._id_starts = np.concatenate([self._id_starts, ends])
        id_starts, kept = self._id_starts, self._ids
        count = int(np.diff(id_starts)[numbers].sum())
        ids, word_ends = np.empty(count, np.int32), np.zeros(len(numbers) + 1, np.int64)
        _gather(numbers, id_starts, kept, ids, word_ends)
        return ids, word_ends
