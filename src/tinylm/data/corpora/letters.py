"""Letters that children write: another kind of text in the words of the embedded stories.

A model of stories has never seen a greeting, a closing or a text in the first person that is no
speech, so that adapting it to letters has something to gain, while nearly all words are known. Each
letter greets somebody, tells of one or two things that happened, asks something and is signed; the
same name stands for the same person in all of it.

Letter ``i`` of a split is a pure function of ``(seed, split, i)``, and the splits are disjoint, in
the same way as for ``stories``. Letters are short: 40 to 130 tokens.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

from tinylm.config import DataConfig
from tinylm.data.corpora.editions import edition
from tinylm.data.corpora.stories import Split, split_of
from tinylm.data.corpora.story_grammar import lexicon, phrases, templates
from tinylm.data.corpora.story_grammar.lexicon import BOYS, COLORS, GIRLS, TOYS, TREASURES
from tinylm.data.corpora.story_grammar.templates import Draw, expand, polish
from tinylm.errors import DataError

DEFAULT_TRAIN_LETTERS: Final = 20_000
DEFAULT_VALIDATION_LETTERS: Final = 1_000
_SPLITS: Final[tuple[Split, Split]] = ("train", "validation")
_MAX_INDEX: Final = 1 << 48

Item = TypeVar("Item")

_KIN = ("Grandma", "Grandpa", "Mom", "Dad", "Granny", "Uncle Bob")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PLACES = ("beach", "farm", "zoo", "lake", "park", "forest", "library", "circus", "fair", "market")
_PETS = ("kitten", "puppy", "hamster", "rabbit", "parrot", "goldfish", "turtle", "canary")
_PET_NAMES = ("Fluffy", "Patch", "Momo", "Coco", "Rusty", "Luna", "Pepper", "Dusty")
_SPOTS = ("under the bed", "behind the door", "in the garden", "in the closet", "in the car")
_FOODS = ("pancakes", "apple pie", "chocolate cake", "pizza", "cookies", "strawberries", "soup")
_SKILLS = ("swim", "whistle", "ride a bike", "juggle", "skate", "play the flute", "draw a horse")
_PLANTS = ("sunflower", "tomato plant", "pumpkin", "rose bush", "tulip", "strawberry plant")
_NUMBERS = ("five", "six", "seven", "ten")

_OPENINGS = (
    "thank you for your [letter|card|postcard]. [I read it three times.|It made me very happy.|"
    "I keep it under my pillow.]",
    "how are you? I am [well|fine] [and so is {kin}|and happy].",
    "[I miss you very much.|I miss you so much!] [It is very quiet here without you.|]",
    "thank you for the {color} {gift}! [It is the best present of all.|I play with it every day.|"
    "I showed it to everybody at school.]",
    "I have so much to tell you.",
)
_EVENTS = (
    "I have a new {pet}! [She is {color} and|She is very small and] her name is {pet_name}. At "
    "night she sleeps [next to my bed|on my feet|in a basket]. [When I whistle, she comes at "
    "once.|{kin} loves her too.]",
    "On {day} I lost my {color} {thing}. I looked everywhere. {kin} found it {spot}. [I was so "
    "glad!|Then I did not cry anymore.]",
    "On {day} we went to the {place}. {friend} came too. We [ran around all day|saw many people|"
    "played until it was dark] and ate {food}. [I was very tired, but happy.|It was so much fun!]",
    "{friend} had a birthday party on {day}. There were {number} candles on the cake. I gave "
    "{friend} a {color} {thing}. [We sang and danced.|We played hide-and-seek and I won.]",
    "I can {skill} now! [At first I was afraid.|At first it was very hard.] {kin} [helped me "
    "every day|said that I must practice|told me to try again]. [Now I do it all the time.|"
    "{friend} wants to learn it too.]",
    "I planted a {plant} in the garden. I water it every morning. [It is as tall as my knee "
    "already.|Today I saw the first green leaf.]",
    "On {day} I broke the {color} {thing} of {friend}. I told the truth and said that I was "
    "sorry. [{friend} was not angry.|We fixed it together with glue.]",
    "I was sick for {number} days and had to stay in bed. {kin} brought me {food} and read me a "
    "story. [Now I am well again.|Today I can go outside again.]",
    "{friend} and I built a [tent|hut|castle] {spot_out}. [It was big enough for two.|It fell "
    "down twice.] We had {food} inside and told each other secrets.",
    "It was raining all day on {day}. {friend} and I jumped into the puddles. [{kin} laughed at "
    "our wet socks.|{kin} gave us warm milk and dry clothes.]",
)
_SPOTS_OUT = ("in the garden", "under the old tree", "by the river", "behind the house")
_QUESTIONS = (
    "When will you visit us?",
    "Do you still have the {color} {other}?",
    "Will you show me how to {skill}?",
    "Is it cold where you are?",
    "Do you want to come to my birthday?",
    "What did you do on {day}?",
    "May I stay with you in the summer?",
)
_CLOSINGS = (
    "Please write soon!",
    "I wish you were here.",
    "Give {kin} a big hug from me.",
    "I will draw you a picture of it.",
    "I must go to bed now.",
    "See you soon!",
)
_SIGNED = ("Love, {author}", "Your friend, {author}", "With love, {author}", "Goodbye, {author}")


def build_letter(seed: int, split: Split, index: int) -> str:
    """Return letter ``index`` of ``split``, the same on every machine.

    Raises:
        DataError: if ``seed`` or ``index`` is negative or ``index`` is 2**48 or more.
    """
    if seed < 0 or not 0 <= index < _MAX_INDEX:
        raise DataError(
            f"letter {index} of seed {seed} does not exist; both must be 0 or more, "
            f"the letter below {_MAX_INDEX}"
        )
    base = ((seed * len(_SPLITS) + _SPLITS.index(split)) * _MAX_INDEX + index) << 16
    attempt = 0
    while True:
        text = _write(random.Random(base + attempt).random)
        if split_of(text) == split:
            return text
        attempt += 1


def _write(draw: Draw) -> str:
    def pick(of: Sequence[Item]) -> Item:
        return of[int(draw() * len(of))]

    author, friend, addressed = _three(draw, (*GIRLS, *BOYS))
    to_kin = draw() < 0.6
    kin, other_kin = _three(draw, _KIN)[:2]
    belonging, gift, other = _three(draw, [t.noun for t in (*TOYS, *TREASURES) if t.size != "l"])
    slots = {
        "author": author,
        "friend": friend,
        "kin": other_kin,
        "thing": belonging,
        "gift": gift,
        "other": other,
        "color": pick(COLORS),
        "day": pick(_DAYS),
        "place": pick(_PLACES),
        "pet": pick(_PETS),
        "pet_name": pick(_PET_NAMES),
        "spot": pick(_SPOTS),
        "spot_out": pick(_SPOTS_OUT),
        "food": pick(_FOODS),
        "skill": pick(_SKILLS),
        "plant": pick(_PLANTS),
        "number": pick(_NUMBERS),
    }
    events = _three(draw, _EVENTS)[: 1 + (draw() < 0.7)]
    parts = [pick(_OPENINGS), *events, pick(_QUESTIONS), pick(_CLOSINGS)]
    if draw() < 0.5:  # not every letter asks
        parts.remove(parts[-2])
    body = " ".join(expand(part, draw, slots) for part in parts)
    signed = expand(pick(_SIGNED), draw, slots)
    whole = f"Dear {kin if to_kin else addressed}, {body} {signed}"
    return polish(" ".join(whole.split()))


def _three(draw: Draw, of: Sequence[Item]) -> tuple[Item, Item, Item]:
    """Return three different items."""
    left = list(of)
    return (
        left.pop(int(draw() * len(left))),
        left.pop(int(draw() * len(left))),
        left.pop(int(draw() * len(left))),
    )


@cache
def _edition() -> str:
    modules = (__file__, lexicon.__file__, phrases.__file__, templates.__file__)
    return edition(Path(str(module)) for module in modules)


class LettersCorpus:
    """Letters; ``data.seed`` chooses which ones."""

    def __init__(self, config: DataConfig) -> None:
        self._seed = config.seed
        self._sizes: dict[Split, int] = {
            "train": config.train_stories or DEFAULT_TRAIN_LETTERS,
            "validation": config.validation_stories or DEFAULT_VALIDATION_LETTERS,
        }

    def train(self) -> Iterator[str]:
        """Yield the training letters (20,000 unless configured), the same at each call."""
        return self._letters("train")

    def validation(self) -> Iterator[str]:
        """Yield validation letters (1,000 unless configured), none of them a training letter."""
        return self._letters("validation")

    def _letters(self, split: Split) -> Iterator[str]:
        for index in range(self._sizes[split]):
            yield build_letter(self._seed, split, index)

    def fingerprint(self) -> str:
        """Name the text: the seed, both sizes and the edition of what writes it."""
        train, validation = self._sizes["train"], self._sizes["validation"]
        return f"letters-{_edition()}-s{self._seed}-t{train}-v{validation}"

    def describe(self) -> str:
        """Say in one sentence what the text is and where it came from."""
        return (
            f"{self._sizes['train']:,} training and {self._sizes['validation']:,} validation "
            f"letters of children, generated by tinylm's letter grammar (seed {self._seed}) with "
            "the vocabulary of its stories."
        )
