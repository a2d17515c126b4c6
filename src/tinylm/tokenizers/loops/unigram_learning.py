"""The loops of training a unigram model, compiled; ``unigram_training`` says what they are for.

Words are code points in a row with their bounds. What stands there for all segmentations is every
piece at every place, the *edges*: for each character those pieces that end with it, the shortest
first, as numbers of pieces of 4 bytes each. Where an edge starts follows from the piece's length.
"""

from __future__ import annotations

import math

import numpy as np

from tinylm.tokenizers.loops import compiled

_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio, odd
_HALF = np.uint64(32)
_EXACT_FROM = 10.0  # where the series of digamma begins


@compiled
def write_parts(codes, bounds, known, longest, write, ends, owners):
    """Cut words at characters that are not known, and where they are too long.

    Args:
        codes: (characters,) of all words.
        bounds: (words + 1,).
        known: (0x110000,) whether a character is known.
        longest: most characters of a part.
        write: whether to write, else only to count.
        ends: (parts,) where each part ends, without unknown characters, written to.
        owners: (parts,) the number of its word, written to.

    Returns:
        The number of parts.
    """
    parts, kept = 0, 0
    for word in range(len(bounds) - 1):
        size = 0
        for place in range(bounds[word], bounds[word + 1]):
            is_known = known[codes[place]]
            if is_known:
                kept += 1
                size += 1
            last = place + 1 == bounds[word + 1]
            if size == longest or (size > 0 and (last or not is_known)):
                if write:
                    ends[parts], owners[parts] = kept, word
                parts += 1
                size = 0
    return parts


@compiled
def write_substrings(codes, rest, order, sums, longest, least, write, firsts, sizes, weights):
    """Find the different substrings of words, from the order of all their ends.

    Where two neighbours in that order have ``n`` characters in common, a run of places that have
    more in common ends: each run is a substring.

    Args:
        codes: (characters,).
        rest: (characters,) how many characters of the word are left at each.
        order: (characters,) the places, by what begins there.
        sums: (characters + 1,) of the words' uses, in that order.
        longest: most characters of a substring.
        least: its uses, if it is longer than a character.
        write: whether to write, else only to count.
        firsts: (substrings,) place in ``order`` where its run begins, written to.
        sizes: (substrings,) its characters, written to.
        weights: (substrings,) uses times characters, written to.

    Returns:
        The number of substrings.
    """
    since = np.zeros(longest + 1, np.int64)
    count, going, before = 0, 0, 0
    for row in range(len(order) + 1):
        most, common, place = 0, 0, 0
        if row < len(order):
            place = order[row]
            most = min(longest, rest[place])
            limit = min(most, going)
            while common < limit and codes[before + common] == codes[place + common]:
                common += 1
        for size in range(common + 1, going + 1):
            uses = sums[row] - sums[since[size]]
            if size == 1 or uses >= least:
                if write:
                    firsts[count], sizes[count] = since[size], size
                    weights[count] = uses * size
                count += 1
        for size in range(common + 1, most + 1):
            since[size] = row
        going, before = most, place
    return count


@compiled
def _mixed(value, code):
    """Return the hash of a string with one more character, to its left."""
    return (value ^ np.uint64(code)) * _FACTOR


@compiled
def _slot(codes, start, size, value, slots, hashes, texts, starts, sizes):
    """Return the place in a table of the piece that stands at ``start``, or a free one for it."""
    mask = np.uint64(len(slots) - 1)
    place = (value ^ (value >> _HALF)) & mask
    while True:
        piece = slots[place]
        if piece < 0:
            return place
        if hashes[piece] == value and sizes[piece] == size:
            k = 0
            while k < size and texts[starts[piece] + k] == codes[start + k]:
                k += 1
            if k == size:
                return place
        place = (place + np.uint64(1)) & mask


@compiled
def put_pieces(texts, starts, sizes, slots, hashes):
    """Fill a table of pieces.

    Args:
        texts: (characters,) code points, among which each piece stands.
        starts: (pieces,) where.
        sizes: (pieces,) how many characters it has.
        slots: (a power of 2,) int32, -1, written to.
        hashes: (pieces,) uint64, written to.
    """
    for piece in range(len(starts)):
        value = np.uint64(0)
        start, size = starts[piece], sizes[piece]
        for k in range(1, size + 1):
            value = _mixed(value, texts[start + size - k])
        hashes[piece] = value
        slots[_slot(texts, start, size, value, slots, hashes, texts, starts, sizes)] = piece


@compiled
def write_edges(codes, bounds, table, longest, write, ends, edges):
    """Find the pieces that end with each character of words.

    Args:
        codes: (characters,).
        bounds: (words + 1,).
        table: slots and hashes of ``put_pieces``, and what it was given.
        longest: most characters of a piece.
        write: whether to write the edges, else their bounds.
        ends: (characters + 1,) the bounds of each character's edges.
        edges: (edges,) int32.
    """
    slots, hashes, texts, starts, sizes = table
    edge = 0
    for word in range(len(bounds) - 1):
        for place in range(bounds[word], bounds[word + 1]):
            value = np.uint64(0)
            for size in range(1, min(longest, place + 1 - bounds[word]) + 1):
                start = place + 1 - size
                value = _mixed(value, codes[start])
                slot = _slot(codes, start, size, value, slots, hashes, texts, starts, sizes)
                if slots[slot] >= 0:
                    if write:
                        edges[edge] = slots[slot]
                    edge += 1
            if not write:
                ends[place + 1] = edge


@compiled
def keep_edges(ends, edges, alive):
    """Take out the edges of pieces that are gone, in place; return how many are left."""
    kept, begin = 0, 0
    for place in range(len(ends) - 1):
        for edge in range(begin, ends[place + 1]):
            if alive[edges[edge]]:
                edges[kept] = edges[edge]
                kept += 1
        begin = ends[place + 1]
        ends[place + 1] = kept
    return kept


@compiled
def add_expected(bounds, ends, edges, sizes, scores, uses, counts):
    """Add up how often each piece is expected; return the log-likelihood of the words.

    Forward the log of the sum of the ways to each place, where each edge's share of it is kept.
    Backward these shares are handed on: the derivative of the log-likelihood by a piece's score.

    Args:
        bounds: (words + 1,).
        ends: (characters + 1,) of the edges.
        edges: (edges,).
        sizes: (pieces,) characters of each.
        scores: (pieces,) log-probabilities.
        uses: (words,).
        counts: (pieces,), added to.
    """
    longest, most_edges = 0, 0
    for word in range(len(uses)):
        longest = max(longest, bounds[word + 1] - bounds[word])
        most_edges = max(most_edges, ends[bounds[word + 1]] - ends[bounds[word]])
    forward, passed = np.empty(longest + 1), np.empty(longest + 1)
    shares = np.empty(most_edges)
    likelihood = 0.0
    for word in range(len(uses)):
        begin, length = bounds[word], bounds[word + 1] - bounds[word]
        base = ends[begin]
        forward[0] = 0.0
        for i in range(1, length + 1):
            low, high = ends[begin + i - 1], ends[begin + i]
            most = -np.inf
            for edge in range(low, high):
                piece = edges[edge]
                value = forward[i - sizes[piece]] + scores[piece]
                shares[edge - base] = value
                most = max(most, value)
            if most == -np.inf:
                shares[low - base : high - base] = 0.0
                forward[i] = most
                continue
            total = 0.0
            for edge in range(low - base, high - base):
                shares[edge] = math.exp(shares[edge] - most)
                total += shares[edge]
            for edge in range(low - base, high - base):
                shares[edge] /= total
            forward[i] = most + math.log(total)
        likelihood += uses[word] * forward[length]
        passed[:length] = 0.0
        passed[length] = uses[word]
        for i in range(length, 0, -1):
            for edge in range(ends[begin + i - 1], ends[begin + i]):
                piece = edges[edge]
                share = passed[i] * shares[edge - base]
                counts[piece] += share
                passed[i - sizes[piece]] += share
    return likelihood


@compiled
def _cut(begin, length, whole, ends, edges, sizes, scores, best, last):
    """Find the best way to each place of a string; of equal ways that whose last piece is longest.

    Args:
        begin: its first character.
        length: of it.
        whole: whether it may be one piece.
        ends: (characters + 1,) of the edges.
        edges: (edges,).
        sizes: (pieces,).
        scores: (pieces,).
        best: (length + 1,) scores, written to.
        last: (length + 1,) the last piece, -1 where there is none, written to.
    """
    best[0] = 0.0
    for i in range(1, length + 1):
        best[i], last[i] = -np.inf, -1
        for edge in range(ends[begin + i - 1], ends[begin + i]):
            piece = edges[edge]
            size = sizes[piece]
            if size > i or (size == length and not whole):
                break
            value = best[i - size] + scores[piece]
            if value >= best[i] and value > -np.inf:
                best[i], last[i] = value, piece


@compiled
def add_best(bounds, ends, edges, sizes, scores, uses, counts):
    """Add the uses of words to the pieces of their best segmentations; the arguments are those of
    ``add_expected``.

    Returns:
        The sum over words of their uses times the scores of these segmentations.
    """
    longest = 0
    for word in range(len(uses)):
        longest = max(longest, bounds[word + 1] - bounds[word])
    best, last = np.empty(longest + 1), np.empty(longest + 1, np.int32)
    total = 0.0
    for word in range(len(uses)):
        place = bounds[word + 1] - bounds[word]
        _cut(bounds[word], place, True, ends, edges, sizes, scores, best, last)
        total += uses[word] * best[place]
        while place > 0 and last[place] >= 0:
            counts[last[place]] += uses[word]
            place -= sizes[last[place]]
    return total


@compiled
def _log_power(n):
    """Return ``n log n``, 0 at 0."""
    return n * math.log(n) if n > 0 else 0.0


@compiled
def write_losses(ends, edges, starts, sizes, scores, counts, candidates, result):
    """Write what the likelihood loses without each piece; the formula is in ``losses``.

    Args:
        ends: (characters + 1,) of the edges.
        edges: (edges,).
        starts: (pieces,) a place where it stands in the words.
        sizes: (pieces,).
        scores: (pieces,).
        counts: (pieces,) its uses in the best segmentations.
        candidates: (pieces,) whether it may go.
        result: (pieces,), written to; infinity where it may not, or where nothing replaces it.
    """
    longest = sizes.max()
    best, last = np.empty(longest + 1), np.empty(longest + 1, np.int32)
    parts, often = np.empty(longest, np.int32), np.empty(longest, np.int64)
    total = counts.sum()
    for piece in range(len(starts)):
        result[piece] = np.inf
        if not candidates[piece]:
            continue
        length = sizes[piece]
        _cut(starts[piece], length, False, ends, edges, sizes, scores, best, last)
        if best[length] == -np.inf:
            continue
        different, number, place = 0, 0, length
        while place > 0:
            part = last[place]
            k = 0
            while k < different and parts[k] != part:
                k += 1
            if k == different:
                parts[k], often[k] = part, 0
                different += 1
            often[k] += 1
            number += 1
            place -= sizes[part]
        gain = 0.0
        for k in range(different):
            uses = counts[parts[k]]
            gain += _log_power(uses + often[k] * counts[piece]) - _log_power(uses)
        after = total + counts[piece] * (number - 1)
        result[piece] = _log_power(counts[piece]) - gain - _log_power(total) + _log_power(after)


@compiled
def write_digamma(values, result):
    """Write the derivative of the log of the gamma function at positive numbers."""
    for i in range(len(values)):
        x, below = values[i], 0.0
        while x < _EXACT_FROM:
            below += 1 / x
            x += 1
        square = 1 / (x * x)
        series = square * (
            1 / 12 - square * (1 / 120 - square * (1 / 252 - square * (1 / 240 - square / 132)))
        )
        result[i] = math.log(x) - 0.5 / x - series - below
