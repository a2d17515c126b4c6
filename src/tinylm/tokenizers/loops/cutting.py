"""Bytes of UTF-8 and their words, compiled: the functions of ``splitting`` for many bytes.

A word is known again by a table with open addressing: its bytes are hashed as they are read, and
compared with those of the entry that has the same hash.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from tinylm.tokenizers import splitting
from tinylm.tokenizers.loops import compiled

for _part in (
    *(splitting.run_end, splitting.run_end_of_breaks, splitting.white_end, splitting.ending_end),
    *(splitting.gpt2_end, splitting.bert_end, splitting.cl100k_end, splitting.word_end),
):
    register_jitable(_part)
word_end = splitting.word_end

_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio, odd
_HALF = np.uint64(32)


@compiled
def write_kinds(text, table, kinds):
    """Write the kind of each byte.

    Args:
        text: (bytes,) uint8, UTF-8.
        table: kind of each code point, (0x110000,) uint8.
        kinds: (bytes,) uint8, written to.
    """
    i = 0
    while i < len(text):
        first = np.int64(text[i])
        if first < 0x80:
            kinds[i] = table[first]
            i += 1
            continue
        if first < 0xE0:
            code, more = first & 0x1F, 1
        elif first < 0xF0:
            code, more = first & 0x0F, 2
        else:
            code, more = first & 0x07, 3
        for k in range(1, more + 1):
            code = (code << 6) | (np.int64(text[i + k]) & 0x3F)
            kinds[i + k] = 0
        kinds[i] = table[code]
        i += more + 1


@compiled
def hash_of(text, start, end):
    """Return the hash of some bytes."""
    value = np.uint64(end - start)
    for k in range(start, end):
        value = (value ^ np.uint64(text[k])) * _FACTOR
    return value ^ (value >> _HALF)


@compiled
def slot_of(text, start, end, value, slots, hashes, starts, lengths, content):
    """Return the place in a table of an entry with the same bytes, or the free one for it.

    Args:
        text: that holds the bytes.
        start: of them.
        end: of them.
        value: their hash.
        slots: (a power of 2,) numbers of entries, -1 where there is none.
        hashes: of the entries.
        starts: of the entries' bytes in ``content``.
        lengths: of the entries' bytes.
        content: the bytes of all entries.
    """
    mask = np.uint64(len(slots) - 1)
    place = value & mask
    length = end - start
    while True:
        entry = slots[place]
        if entry < 0:
            return place
        if hashes[entry] == value and lengths[entry] == length:
            begin = starts[entry]
            k = 0
            while k < length and content[begin + k] == text[start + k]:
                k += 1
            if k == length:
                return place
        place = (place + np.uint64(1)) & mask
