"""A story about an animal: several of its sentences name one."""

from __future__ import annotations

from tinylm.alignment.rules.texts import long_enough, sentences
from tinylm.config.rules import AnimalConfig

_AT_HOME = "cat kitten kitty dog puppy pup pet hamster goldfish parrot pony"
_ON_THE_FARM = "horse donkey cow calf goat sheep lamb pig hen chick chicken rooster duck duckling"
_IN_THE_WOODS = """
    bear wolf fox deer rabbit bunny hare squirrel chipmunk hedgehog badger raccoon beaver mole otter
    mouse rat bat owl frog toad snake lizard turtle tortoise snail worm
"""
_FAR_AWAY = """
    lion tiger leopard elephant giraffe zebra hippo rhino monkey gorilla panda koala kangaroo camel
    crocodile penguin seal dinosaur
"""
_IN_THE_AIR = "bird crow pigeon dove sparrow robin eagle swan goose butterfly bee beetle ladybug"
_SMALL_OR_IN_THE_SEA = """
    ant spider bug caterpillar cricket fish shark whale dolphin octopus crab
"""
_PLURALS = {
    "mouse": "mice",
    "goose": "geese",
    "wolf": "wolves",
    "calf": "calves",
    "fish": "fishes",
    "sheep": "sheep",
    "deer": "deer",
}


def _plural(animal: str) -> str:
    if animal in _PLURALS:
        return _PLURALS[animal]
    if animal.endswith("y") and animal[-2] not in "aeiou":
        return f"{animal[:-1]}ies"
    return f"{animal}es" if animal.endswith(("s", "x", "ch", "sh")) else f"{animal}s"


_KINDS = (
    f"animal {_AT_HOME} {_ON_THE_FARM} {_IN_THE_WOODS} {_FAR_AWAY} {_IN_THE_AIR} "
    f"{_SMALL_OR_IN_THE_SEA}"
).split()
ANIMALS = frozenset(_KINDS) | {_plural(animal) for animal in _KINDS}


class Animal:
    """Is about an animal."""

    Settings = AnimalConfig
    label = "animal"
    noun = "stories about an animal"
    explanation = (
        "A story is *about an animal* if so many of its sentences, after the prompt, name one; a "
        "sentence that names two counts once."
    )

    def __init__(self, settings: AnimalConfig) -> None:
        self.settings = settings

    def score(self, prompt: str, response: str, finished: bool) -> float:
        """Return how many of the sentences that are asked for name one; see ``Rule.score``."""
        parts = sentences(response)
        naming = sum(any(_kind(word) in ANIMALS for word in each) for each in parts)
        share = min(1.0, naming / self.settings.sentences)
        return share * long_enough(sum(map(len, parts)), self.settings.least_words)


def _kind(word: str) -> str:
    """Return a word without the ``'s`` of an owner."""
    return word.removesuffix("'s").removesuffix("'")
