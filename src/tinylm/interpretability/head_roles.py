"""What a head is called: one rule for the report, the page and the command line.

A head is named after the category to which it gives most weight beyond what is expected there
(``head_measures``), if that stands out; a second category is named if it comes close. Otherwise it
is called mixed, and its greatest shares are given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tinylm.interpretability.head_measures import HeadMeasure, Share
from tinylm.interpretability.places import PLACES
from tinylm.measurement import Difference, Verdict

STANDS_OUT = 0.1
"""Least focus of the category that a head is named after: the part of the way from the expected
share to all of the weight."""
CLOSE = 0.5
"""A second category is named if its focus stands out and is at least this part of the first
one's."""
FEWEST_QUERIES = 50
"""Queries on which a share must rest to take part: fewer may be chance."""
MIXED = "mixed"
_MOST_LISTED = 3
"""Shares that are listed for a mixed head."""
_PHRASES = {place.name: place.phrase for place in PLACES}
_OF_WORDS = {place.name for place in PLACES if place.of_words}


@dataclass(frozen=True)
class Role:
    """What a head is called, and the shares that decide it."""

    ranked: tuple[tuple[str, Share], ...]
    """Categories and shares, the greatest focus first."""
    leading: bool
    """Whether the first of them stands out."""
    second: bool
    """Whether the second one is close to it."""

    @property
    def name(self) -> str:
        """The category it is named after, or ``mixed``."""
        return self.ranked[0][0] if self.leading else MIXED

    @property
    def second_name(self) -> str | None:
        """The second category, if it is close."""
        return self.ranked[1][0] if self.second else None


def role(shares: Mapping[str, Share]) -> Role:
    """Return what a head with these shares is called; a tie goes to the place named first."""
    counted = [
        (place.name, shares[place.name])
        for place in PLACES
        if place.name in shares and shares[place.name].queries >= FEWEST_QUERIES
    ]
    ranked = tuple(sorted(counted, key=lambda pair: -pair[1].focus))  # stable
    focus = [share.focus for _, share in ranked]
    leading = bool(focus) and focus[0] >= STANDS_OUT
    second = leading and len(focus) > 1 and focus[1] >= max(STANDS_OUT, CLOSE * focus[0])
    return Role(ranked, leading, second)


def describe(head: HeadMeasure, spell: Callable[[int], str]) -> str:
    """Return what a head does in a sentence or two, with the numbers that they rest on.

    Args:
        head: measured.
        spell: token id -> its text.
    """
    head_role = role(head.shares)
    if not head_role.ranked:
        return "Too few tokens were measured to say anything."
    if head_role.leading:
        text = _gives(head_role.ranked[: 1 + head_role.second])
    elif above := [pair for pair in head_role.ranked[:_MOST_LISTED] if pair[1].focus > 0]:
        text = f"No category stands out. {_gives(above)}"
    else:
        text = "No category stands out. Gives no more than expected to any of those measured"
    text += f"; {head.distance:.1f} tokens back on average"
    words = [
        f"“{spell(favourite.token)}” ({favourite.factor:.1f} times)"
        for favourite in head.favourites
    ]
    if words:
        text += f". Most above what their positions explain: {_listed(words)}"
    return text + "."


def describe_worth(worth: Difference) -> str:
    """Return how important a head is to the predictions, by the change of the loss without it."""
    if worth.verdict is Verdict.UNKNOWN:
        return "Its importance could not be measured."
    numbers = f"{worth.value:.4f} nats ({worth.low:.4f} to {worth.high:.4f})"
    return {
        Verdict.MORE: f"Without it the validation loss is higher, by {numbers}.",
        Verdict.LESS: f"Without it the validation loss is lower, by {_negative(worth)}.",
        Verdict.ALIKE: f"Without it the validation loss is not measurably different: {numbers}.",
    }[worth.verdict]


def _negative(worth: Difference) -> str:
    turned = -worth
    return f"{turned.value:.4f} nats ({turned.low:.4f} to {turned.high:.4f})"


def _gives(pairs: Sequence[tuple[str, Share]]) -> str:
    phrases: list[str] = []
    for name, share in pairs:
        whole = "" if phrases else " of its weight"
        expected = "by its positions alone" if name in _OF_WORDS else "under uniform attention"
        phrases.append(
            f"{100 * share.share:.0f}\u202f%{whole} {_PHRASES[name]} "
            f"({100 * share.expected:.0f}\u202f% {expected})"
        )
    return f"Gives {_listed(phrases)}"


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
