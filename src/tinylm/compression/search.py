"""Which candidate is best, with as few of them made as can be.

A candidate is a share of the parts that go and the bits of what is left. How large it is can be
told without making it, how good it is cannot: for every share the parts are removed and what is
left is trained, which takes long, and for every width its weights are rounded. Two things are taken
for granted: rounding never helps, so that no width of a share is better than its float weights; and
a model that more was taken from is no better, so that once a share is too bad, so are larger ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A smaller form of a model."""

    share: float = 0.0
    """Of the parts, that go; 0: all stay."""
    width: tuple[int, int] | None = None
    """Bits of a weight, and of one of the embedding; None: float weights."""


@dataclass(frozen=True)
class Goal:
    """What is asked for: one of both."""

    most_bytes: int | None = None
    """The model of the least loss that is no larger."""
    most_loss: float | None = None
    """The smallest model whose loss, in nats a token, is no higher."""


def search(
    goal: Goal,
    shares: Sequence[float],
    widths: Sequence[tuple[int, int]],
    size: Callable[[Candidate], int],
    loss: Callable[[Candidate], float],
) -> Candidate | None:
    """Return the best candidate, or None if none reaches the goal.

    Args:
        goal: what it must reach.
        shares: that are tried beside 0.
        widths: that are tried beside float weights.
        size: bytes of a candidate, cheap.
        loss: of a candidate, in nats a token; asked for no more often than needed, of no candidate
            twice, of a share's float weights first.
    """
    best: Candidate | None = None
    best_loss = float("inf")
    for share in (0.0, *sorted(set(shares))):
        plain = Candidate(share)
        every = dict.fromkeys([plain, *(Candidate(share, width) for width in widths)])
        forms = sorted(every, key=size)
        if goal.most_bytes is not None:
            forms = [each for each in reversed(forms) if size(each) <= goal.most_bytes]
        elif best is not None:
            forms = [each for each in forms if size(each) < size(best)]
        if not forms:
            continue
        least = loss(plain)
        enough = best_loss if goal.most_loss is None else goal.most_loss
        if least > enough:
            break
        for each in forms:
            value = least if each == plain else loss(each)
            if goal.most_loss is None and value < best_loss:
                best, best_loss = each, value
            elif goal.most_loss is not None and value <= goal.most_loss:
                best = each
                break
    return best
