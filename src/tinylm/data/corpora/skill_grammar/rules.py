"""Two-step rules: what becomes of a colour after two of the rules that the prompt gives.

A rule is a pair of colours, of which the first becomes the second. Four rules, in any order, make
two chains of two, and which they are changes from item to item. The answer is the last colour of
the chain, or the chain written out to it. The fact is from which colour a chain leads to which in
two steps; no training item has a withheld pair in either of its chains.
"""

from __future__ import annotations

from tinylm.data.corpora.skill_grammar.items import Draw, Facts, Item, several

COLOURS = (
    "red", "blue", "gold", "green", "pink", "white", "black", "gray", "brown", "purple", "orange",
    "silver",
)  # fmt: skip
CHAINS = 2


def make(draw: Draw, facts: Facts) -> Item | None:
    """Return rules, a colour, and what it becomes."""
    made = _rules(draw, facts)
    if made is None:
        return None
    listed, (start, _, end) = made
    return Item("rules", f"Rules: {listed}. Twice from {start}:", f"{end}.", 1 / CHAINS)


def make_with_chain(draw: Draw, facts: Facts) -> Item | None:
    """Return the same, the answer with its chain."""
    made = _rules(draw, facts)
    if made is None:
        return None
    listed, (start, middle, end) = made
    answer = f"{start} {middle} {end}."
    return Item("rules-chain", f"Rules: {listed}. Step by step from {start}:", answer, 1 / CHAINS)


def _rules(draw: Draw, facts: Facts) -> tuple[str, tuple[str, str, str]] | None:
    """Return the rules as text, and the chain that is asked for."""
    colours = several(draw, COLOURS, 3 * CHAINS)
    chains = [(colours[i], colours[i + 1], colours[i + 2]) for i in range(0, len(colours), 3)]
    for number, (start, _, end) in enumerate(chains):
        if facts.withheld("rules", start, end) != (facts.held_out and number == 0):
            return None
    steps = [pair for first, middle, last in chains for pair in ((first, middle), (middle, last))]
    ordered = several(draw, steps, len(steps))
    return ", ".join(f"{first} {then}" for first, then in ordered), chains[0]
