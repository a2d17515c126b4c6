"""The embedded corpus: short stories that a seeded story world tells, with no file and no network.

Each story is a small simulation (``story_grammar``): a plot casts characters, hands out things,
lets somebody lose, want, break or fear something, and tells what the state of the world makes
true, so later sentences depend on earlier ones. Story ``i`` of a split is a pure function of
``(seed, split, i)``: it is drawn with ``random.Random(int).random()`` only, whose sequence Python
keeps between versions.

The splits are disjoint by construction: the CRC-32 of a text decides which split it may appear
in, and a story that came out on the wrong side is drawn again. One text in eight belongs to
validation, so a training story costs 8/7 draws on average and a validation story eight.

One core of a shared machine made 3,600 to 6,800 training stories and about 580 validation stories
a second, so the default 20,000 + 1,000 take five to eight seconds; they hold about 1,960 word types
and 105 to 236 words each.
"""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from tinylm.config import DataConfig
from tinylm.data.corpora.story_grammar.plots import PLOTS
from tinylm.data.corpora.story_grammar.world import StoryFacts, World
from tinylm.errors import DataError

Split = Literal["train", "validation"]

DEFAULT_TRAIN_STORIES: Final = 20_000
DEFAULT_VALIDATION_STORIES: Final = 1_000
_VALIDATION_SHARE: Final = 8
_SPLITS: Final[tuple[Split, Split]] = ("train", "validation")
_MAX_INDEX: Final = 1 << 48


@dataclass(frozen=True)
class Story:
    """One text and what happens in it."""

    text: str
    facts: StoryFacts


def split_of(text: str) -> Split:
    """Return the only split in which ``text`` may appear."""
    return "validation" if zlib.crc32(text.encode()) % _VALIDATION_SHARE == 0 else "train"


def build_story(seed: int, split: Split, index: int) -> Story:
    """Return story ``index`` of ``split`` with its facts, the same on every machine.

    Raises:
        DataError: if ``seed`` or ``index`` is negative or ``index`` is 2**48 or more.
    """
    if seed < 0 or not 0 <= index < _MAX_INDEX:
        raise DataError(
            f"story {index} of seed {seed} does not exist; both must be 0 or more, "
            f"the story below {_MAX_INDEX}"
        )
    base = ((seed * len(_SPLITS) + _SPLITS.index(split)) * _MAX_INDEX + index) << 16
    attempt = 0
    while True:
        story = _tell(random.Random(base + attempt))
        if split_of(story.text) == split:
            return story
        attempt += 1


def _tell(rng: random.Random) -> Story:
    draw = rng.random
    plot = PLOTS[int(draw() * len(PLOTS))]
    world = World(plot.__name__, draw, animals=draw() < 0.35)
    plot(world)
    return Story(world.text(), world.facts)


@cache
def _grammar_digest() -> str:
    """Digest of the sources that the texts follow from, so that an edit renames the corpus."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted([Path(__file__), *(folder / "story_grammar").rglob("*.py")]):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


class StoriesCorpus:
    """Stories of the embedded grammar; ``data.seed`` chooses which ones."""

    def __init__(self, config: DataConfig) -> None:
        self._seed = config.seed
        self._sizes: dict[Split, int] = {
            "train": config.train_stories or DEFAULT_TRAIN_STORIES,
            "validation": config.validation_stories or DEFAULT_VALIDATION_STORIES,
        }

    def train(self) -> Iterator[str]:
        """Yield the training stories (20,000 unless configured), the same at each call."""
        return self._stories("train")

    def validation(self) -> Iterator[str]:
        """Yield the validation stories (1,000 unless configured), none of them a training story."""
        return self._stories("validation")

    def _stories(self, split: Split) -> Iterator[str]:
        for index in range(self._sizes[split]):
            yield build_story(self._seed, split, index).text

    def fingerprint(self) -> str:
        """Name the text: the seed, both sizes and a digest of the grammar."""
        train, validation = self._sizes["train"], self._sizes["validation"]
        return f"stories-{_grammar_digest()}-s{self._seed}-t{train}-v{validation}"

    def describe(self) -> str:
        """Say in one sentence what the text is and where it came from."""
        return (
            f"{self._sizes['train']:,} training and {self._sizes['validation']:,} validation "
            f"stories told by tinylm's own seeded story grammar ({len(PLOTS)} plots, seed "
            f"{self._seed}), in the manner of TinyStories."
        )
