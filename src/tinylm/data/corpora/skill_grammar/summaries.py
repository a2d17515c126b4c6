"""Summaries: a short story, and its plot in one line.

The plot names who owned the thing, what happened to it and who helped; the story also holds
somebody who did neither, and sentences that change nothing. The fact is which thing, which
mishap and which helper stand together.
"""

from __future__ import annotations

from tinylm.data.corpora.skill_grammar.items import Draw, Facts, Item, pick, several

HEROES = {
    "Ann": "she", "Ben": "he", "Cora": "she", "Dan": "he", "Eva": "she", "Finn": "he",
    "Gus": "he", "Hana": "she", "Ivo": "he", "Lucy": "she",
}  # fmt: skip
"""Name -> pronoun; the people of the other tasks, too."""
THINGS = ("kite", "cup", "doll", "drum", "lamp", "boat", "hat", "bell", "book", "clock")
HELPERS = ("teacher", "farmer", "nurse", "baker", "sailor", "painter", "gardener", "neighbor")
MISHAPS = {
    "loses": (("lost it in the park", "left it in the woods"), "found it under a tree", "finds"),
    "breaks": (("dropped it on the floor", "stepped on it"), "mended it with glue", "mends"),
    "muddies": (("let it fall into the mud", "dragged it through dirt"), "washed it", "cleans"),
    "sells": (("took money for it", "gave it away for two coins"), "got it back", "returns"),
}
"""What happens -> how a story tells it, how it tells the help, and what the helper does."""
_FEELINGS = ("{who} was very sad.", "{who} cried for a while.", "{who} could not sleep.")
_WITNESSES = ("{other} went to school.", "{other} ate an apple.", "{other} was at home.")


def make(draw: Draw, facts: Facts) -> Item | None:
    """Return a story and its plot."""
    owned, helper, mishap = pick(draw, THINGS), pick(draw, HELPERS), pick(draw, list(MISHAPS))
    if not facts.decides("summary", owned, mishap, helper):
        return None
    hero, other = several(draw, list(HEROES), 2)
    events, help_, does = MISHAPS[mishap]
    who = HEROES[hero].capitalize()
    witness = pick(draw, _WITNESSES).format(other=other)
    parts = [
        f"{hero} had a {owned}.",
        f"One day {HEROES[hero]} {pick(draw, events)}.",
        pick(draw, _FEELINGS).format(who=who),
        f"Then a {helper} {help_}.",
    ]
    parts.insert(int(draw() * (len(parts) + 1)), witness)
    whole = " ".join(parts)
    return Item(
        "summary",
        f"Story: {whole} Plot:",
        f"{hero} {mishap} a {owned} and a {helper} {does} it.",
        1 / (2 * len(MISHAPS)),  # either of the two who are named, and a mishap
    )
