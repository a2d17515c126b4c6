"""The settings of the rules that stories are judged by, one dataclass a rule."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from tinylm.config.effects import UsedWith
from tinylm.value_types import FROZEN, NonNegativeInt, PositiveInt

Word = Annotated[str, Field(pattern=r"^[a-z]+(-[a-z]+)*$", max_length=40)]


def _once(words: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(words)) < len(words):
        raise ValueError("a word stands there twice")
    return words


Words = Annotated[tuple[Word, ...], Field(min_length=1, max_length=20), AfterValidator(_once)]


@dataclass(frozen=True, config=FROZEN)
class RuleConfig:
    """What every rule has."""

    used_with: ClassVar[UsedWith] = {}

    least_words: NonNegativeInt = 20
    """A story of fewer words earns in proportion."""


@dataclass(frozen=True, config=FROZEN)
class HappyEndConfig(RuleConfig):
    """A story that ends happily."""

    sentences: PositiveInt = 2
    """Last sentences that are its end, a moral left out."""


@dataclass(frozen=True, config=FROZEN)
class SadEndConfig(HappyEndConfig):
    """A story that ends sadly."""


@dataclass(frozen=True, config=FROZEN)
class DialogueConfig(RuleConfig):
    """A story in which somebody speaks."""

    speeches: PositiveInt = 1
    """What is said, from one quotation mark to the next, counts so often."""


@dataclass(frozen=True, config=FROZEN)
class ShortConfig(RuleConfig):
    """A story that stays short."""

    most_words: PositiveInt = 100
    """A story of no more words is short; a longer one earns this number over its own."""


@dataclass(frozen=True, config=FROZEN)
class WordsConfig(RuleConfig):
    """A story that uses given words."""

    words: Words = ("dog", "ball", "rain")
    """Lower-case words, each of which earns its share."""


@dataclass(frozen=True, config=FROZEN)
class NoRepetitionConfig(RuleConfig):
    """A story that does not say the same again."""

    length: Annotated[int, Field(ge=1, le=20)] = 4
    """Neighbouring words that may not stand there twice."""


@dataclass(frozen=True, config=FROZEN)
class AnimalConfig(RuleConfig):
    """A story about an animal."""

    sentences: PositiveInt = 3
    """Sentences that name an animal; of fewer, each earns its share."""
