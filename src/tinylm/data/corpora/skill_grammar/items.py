"""An item of a task, and which facts may stand in which split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Draw = Callable[[], float]
"""Returns a number from 0 to below 1 at every call, as ``random.Random.random`` does."""
Option = TypeVar("Option")
_BYTES = 8


@dataclass(frozen=True)
class Item:
    """One example of a task."""

    task: str
    prompt: str
    """Ends with a whole token, so that prompt and answer are cut alike apart and together."""
    answer: str
    """All that must follow, to the end of the text."""
    guess: float
    """Share of right answers of whoever knows the form of the task and nothing of its rule: who
    draws from the answers that the prompt leaves possible, or always gives the likeliest."""

    @property
    def text(self) -> str:
        """The item as it is trained on."""
        return f"{self.prompt} {self.answer}"


class Facts:
    """Which facts are withheld from training, and whether an item of this split needs one.

    A fact is what an answer hangs on: such as a subject, verb and object that stand together, or
    two numbers that are added. By its SHA-256 it belongs to one side for good. (A checksum such as
    CRC-32 would not do: it is linear in the bits of the text, and would withhold by a rule that a
    model could learn, such as the parity of a digit.)
    """

    def __init__(self, seed: int, share: float, held_out: bool) -> None:
        """Divide the facts.

        Args:
            seed: of the division.
            share: of the facts that are withheld.
            held_out: whether items hang on withheld facts; else they hold none.
        """
        self._seed = seed
        self._bound = share * 256**_BYTES
        self.held_out = held_out
        self._known: dict[tuple[object, ...], bool] = {}

    def withheld(self, *fact: object) -> bool:
        """Whether no training item may hold a fact: the name of its task, and what it is."""
        known = self._known.get(fact)
        if known is None:
            key = "|".join(map(str, (self._seed, *fact))).encode()
            number = int.from_bytes(hashlib.sha256(key).digest()[:_BYTES], "big")
            known = self._known[fact] = number < self._bound
        return known

    def decides(self, *fact: object) -> bool:
        """Whether the answer of an item of this split may hang on a fact."""
        return self.withheld(*fact) == self.held_out


def pick(draw: Draw, options: Sequence[Option]) -> Option:
    """Return one of some options, all alike likely."""
    return options[int(draw() * len(options))]


def several(draw: Draw, options: Sequence[Option], count: int) -> list[Option]:
    """Return different ones of some options, in the order drawn."""
    left = list(options)
    return [left.pop(int(draw() * len(left))) for _ in range(count)]
