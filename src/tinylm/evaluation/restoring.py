"""What it costs to say a text once the tokens are known, where they do not say all of it.

A tokenizer of words loses capitals, spaces and every word that it reads as ``<unk>``. The bits of
its tokens are then not the bits of the text: a tokenizer that read every word as ``<unk>`` would
need hardly any. So what the tokens leave open is charged as well, by a code that could be decoded:

1. The text that decoding gives is cut into *atoms*: white space with the word, number, ``<unk>`` or
   mark after it.
2. Each atom bears a flag: kept, or changed. A flag costs what its share in training texts says,
   for ``<unk>`` and for other atoms apart (Krichevsky and Trofimov 1981: ½ is added to counts).
3. A changed atom is spelled as it stands in the text, byte by byte with an end. A byte costs what
   the longest known context says, smoothed by all shorter ones (Witten and Bell 1991), of what was
   spelled in training texts.

Which atoms are kept is found by ``difflib``; another alignment may be cheaper. The code is
proper: its probabilities add up to 1 over all texts. A lossless tokenizer costs nothing but flags
that never change, a millionth of a bit each. So bits of tokens and of restoring together are the
length of a code for the text, and comparable between all tokenizers.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher

from tinylm.tokenizers.base import UNK, Tokenizer

_ATOM = re.compile(rf"\s*(?:{UNK}|[^\W_]+|\S)|\s+")
_CONTEXT = 4
"""Bytes before one that it is told from."""
_END = 256
_SYMBOLS = 257
"""Bytes and the end."""


def atoms(text: str) -> list[str]:
    """Return the atoms of a text, of which it is the sum."""
    return _ATOM.findall(text)


def changes(decoded: str, text: str) -> Iterator[tuple[str, str | None]]:
    """Yield each atom of a decoded text with what the text has in its place; None: the same.

    The first atom is an empty one, so that something may stand before all others.
    """
    before, after = ["", *atoms(decoded)], ["", *atoms(text)]
    if decoded == text:
        yield from ((atom, None) for atom in before)
        return
    now: list[str | None] = [None] * len(before)
    for kind, i, i_end, j, j_end in SequenceMatcher(None, before, after, False).get_opcodes():
        if kind == "insert":  # which goes to the atom before
            now[i - 1] = "".join([before[i - 1], *after[j:j_end]])
        elif kind != "equal":
            for place in range(i, i_end):
                last = place == i_end - 1
                end = j_end if last else min(j_end, j + place - i + 1)
                now[place] = "".join(after[min(j_end, j + place - i) : end])
    yield from zip(before, now, strict=True)


class Speller:
    """Strings of bytes by the bytes before, learned from examples."""

    def __init__(self, examples: Iterable[str]) -> None:
        self._counts: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
        for example in examples:
            content = example.encode("utf-8", "surrogatepass")
            for place, symbol in enumerate([*content, _END]):
                for length in range(min(place, _CONTEXT) + 1):
                    self._counts[content[place - length : place]][symbol] += 1

    def probability(self, context: bytes, symbol: int) -> float:
        """Return how probable a byte, or the end (256), is after a context."""
        known = 1 / _SYMBOLS
        for length in range(min(len(context), _CONTEXT) + 1):
            counts = self._counts.get(context[len(context) - length :])
            if counts is None:
                break
            kinds, total = len(counts), counts.total()
            known = (counts[symbol] + kinds * known) / (total + kinds)
        return known

    def bits(self, text: str) -> float:
        """Return the bits of a string with its end."""
        content = text.encode("utf-8", "surrogatepass")
        return -sum(
            math.log2(self.probability(content[:place], symbol))
            for place, symbol in enumerate([*content, _END])
        )


class Restoring:
    """Bits of texts given what their tokens are decoded to; learned from training texts.

    Args:
        pairs: decoded texts and the texts themselves.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        seen: Counter[tuple[bool, bool]] = Counter()
        spelled: list[str] = []
        for decoded, text in pairs:
            for atom, now in changes(decoded, text):
                seen[_unknown(atom), now is not None] += 1
                if now is not None:
                    spelled.append(now)
        self._bits = {
            (unknown, changed): -math.log2(
                (seen[unknown, changed] + 0.5) / (seen[unknown, True] + seen[unknown, False] + 1)
            )
            for unknown in (False, True)
            for changed in (False, True)
        }
        self._speller = Speller(spelled)

    @classmethod
    def of(cls, tokenizer: Tokenizer, texts: Iterable[str]) -> Restoring:
        """Learn it for a tokenizer from training texts."""
        every = list(texts)
        return cls(zip(tokenizer.decode_batch(tokenizer.encode_batch(every)), every, strict=True))

    def bits(self, decoded: str, text: str) -> float:
        """Return the bits that say a text to whoever knows what its tokens are decoded to."""
        return sum(
            self._bits[_unknown(atom), now is not None]
            + (0.0 if now is None else self._speller.bits(now))
            for atom, now in changes(decoded, text)
        )


def _unknown(atom: str) -> bool:
    return atom.endswith(UNK)
