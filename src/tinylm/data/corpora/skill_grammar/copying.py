"""Copying, a control: three to six words, and the same words again.

The fact is which two words follow each other; no training item has a withheld pair.
"""

from __future__ import annotations

import math

from tinylm.data.corpora.skill_grammar.items import Draw, Facts, Item, pick
from tinylm.data.corpora.skill_grammar.summaries import HELPERS, THINGS

WORDS = (*THINGS, *HELPERS)
_LENGTHS = (3, 4, 5, 6)


def make(draw: Draw, facts: Facts) -> Item | None:
    """Return words and their copy."""
    length = pick(draw, _LENGTHS)
    decisive = 1 + int(draw() * (length - 1))
    words = [pick(draw, WORDS)]
    while len(words) < length:
        wanted = facts.held_out and len(words) == decisive
        able = [
            word
            for word in WORDS
            if word not in words and facts.withheld("copy", words[-1], word) == wanted
        ]
        if not able:
            return None
        words.append(pick(draw, able))
    listed = " ".join(words)
    return Item("copy", f"Copy: {listed} /", f"{listed}.", 1 / math.factorial(length))
