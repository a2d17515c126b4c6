"""Who has the ball: two things change hands five times among four people.

Only who has a thing can give it, so that a text cannot be predicted without knowing the state of
its world. The question comes last and asks for either thing; in part of the stories another one
was given last. The fact is who gave the thing in question to whom at last; no training story has
a withheld giver and receiver anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinylm.data.corpora.skill_grammar.items import Draw, Facts, Item, pick, several
from tinylm.data.corpora.skill_grammar.summaries import HEROES

PEOPLE = tuple(HEROES)
OBJECTS = ("ball", "key")
HAND_OVERS = 5
_PLAYERS = 4


@dataclass(frozen=True)
class HandOver:
    """One sentence of the story."""

    giver: str
    object_: str
    receiver: str

    @property
    def people(self) -> tuple[str, str]:
        """Who is named."""
        return self.giver, self.receiver

    @property
    def text(self) -> str:
        """As the story tells it."""
        return f"{self.giver} gives {self.receiver} the {self.object_}."


@dataclass(frozen=True)
class Course:
    """What happens in a story, and what is asked."""

    first: dict[str, str]
    """Who has which object at the start."""
    hand_overs: tuple[HandOver, ...]
    asked: str
    """The object."""

    def holder(self, object_: str, after: int = HAND_OVERS) -> str:
        """Return who has an object after so many hand-overs."""
        holder = self.first[object_]
        for hand_over in self.hand_overs[:after]:
            if hand_over.object_ == object_:
                holder = hand_over.receiver
        return holder

    @property
    def item(self) -> Item:
        """The story as text."""
        start = " ".join(f"{self.first[object_]} has the {object_}." for object_ in OBJECTS)
        sentences = " ".join(hand_over.text for hand_over in self.hand_overs)
        return Item(
            "holder",
            f"{start} {sentences} Who has the {self.asked}?",
            f"{self.holder(self.asked)}.",
            1 / _PLAYERS,
        )


def course(draw: Draw, facts: Facts) -> Course | None:
    """Return what happens in a story; None where this split has no such story."""
    players = several(draw, PEOPLE, _PLAYERS)
    holders = dict(zip(OBJECTS, several(draw, players, len(OBJECTS)), strict=True))
    first, asked = dict(holders), pick(draw, OBJECTS)
    moved = [pick(draw, OBJECTS) for _ in range(HAND_OVERS)]
    if asked not in moved:
        return None
    decisive = HAND_OVERS - 1 - moved[::-1].index(asked)
    hand_overs = []
    for number, object_ in enumerate(moved):
        giver = holders[object_]
        able = [
            player
            for player in players
            if player != giver
            and facts.withheld("holder", giver, player) == (facts.held_out and number == decisive)
        ]
        if not able:
            return None
        holders[object_] = pick(draw, able)
        hand_overs.append(HandOver(giver, object_, holders[object_]))
    return Course(first, tuple(hand_overs), asked)


def make(draw: Draw, facts: Facts) -> Item | None:
    """Return a story, the question and who has the thing."""
    made = course(draw, facts)
    return None if made is None else made.item
