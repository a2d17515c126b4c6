"""Sums of two numbers below 50, a control: a table that can be learned by heart.

To the word tokenizer a number is one token, which says nothing of its value. The fact is which two
numbers are added, in either order.
"""

from __future__ import annotations

from tinylm.data.corpora.skill_grammar.items import Draw, Facts, Item

_NUMBERS = 50


def make(draw: Draw, facts: Facts) -> Item | None:
    """Return two numbers and their sum."""
    first, second = int(draw() * _NUMBERS), int(draw() * _NUMBERS)
    if not facts.decides("sum", *sorted((first, second))):
        return None
    # No sum is likelier than 49, which 50 of the 2,500 pairs have.
    return Item("sum", f"Sum: {first} + {second} =", f"{first + second}.", 1 / _NUMBERS)
