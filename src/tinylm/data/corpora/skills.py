"""Tasks as plain text: translation, summaries, reasoning, copying and sums, in one corpus.

Every text is an item of one of the tasks of ``skill_grammar``: a prompt and an answer that can be
checked exactly. A model that is trained to predict the next token of such texts, and nothing else,
is asked for a task by its prompt.

Facts are withheld: a share of what answers hang on (``data.withheld``) stands in no training text,
and every text of the validation split hangs on such a fact. The splits are therefore disjoint by
construction, and a right answer there is none that was seen. Which facts they are is decided by
their names and the seed; item ``i`` of a split is a pure function of seed, split, withheld share,
tasks and ``i``, in the same way as for ``stories``.

One core of a shared machine made 24,000 to 58,000 training items a second; an item has 10 to 50
tokens of the word tokenizer, ``<sos>`` and ``<eos>`` included.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Final

from tinylm.config import DataConfig
from tinylm.data.corpora.editions import edition
from tinylm.data.corpora.skill_grammar import TASKS, Facts, Item
from tinylm.data.corpora.stories import Split
from tinylm.errors import DataError, nearest, shown

DEFAULT_TRAIN_ITEMS: Final = 20_000
DEFAULT_VALIDATION_ITEMS: Final = 1_000
_SPLITS: Final[tuple[Split, Split]] = ("train", "validation")
_MAX_INDEX: Final = 1 << 48
_ATTEMPTS: Final = 1 << 14
_DRAWS: Final = 8
"""Items drawn for each of those that must differ."""


class SkillsCorpus:
    """Items of the tasks; ``data.seed`` chooses which ones, and which facts are withheld."""

    def __init__(self, config: DataConfig) -> None:
        """Check the tasks.

        Raises:
            DataError: for one that there is not, or that stands there twice.
        """
        self._config = config
        self.tasks = _tasks(config.tasks)
        self._sizes: dict[Split, int] = {
            "train": config.train_stories or DEFAULT_TRAIN_ITEMS,
            "validation": config.validation_stories or DEFAULT_VALIDATION_ITEMS,
        }

    def train(self) -> Iterator[str]:
        """Yield the training items (20,000 unless configured), the same at each call."""
        return (item.text for item in self.items("train"))

    def validation(self) -> Iterator[str]:
        """Yield the held-out items (1,000 unless configured), none of them a training item."""
        return (item.text for item in self.items("validation"))

    def items(self, split: Split) -> Iterator[Item]:
        """Yield the items of a split with their prompts and answers.

        Raises:
            DataError: if the withheld share leaves a task without an item in the split.
        """
        facts = self.facts(split)
        for index in range(self._sizes[split]):
            yield build_item(self._config.seed, split, index, self.tasks, facts)

    def held_out(self, task: str, count: int) -> list[Item]:
        """Return different items of one task that hang on withheld facts, at most ``count``.

        They are those of a corpus of this task alone, so that the number of one task's items does
        not hang on the others.
        """
        return self._different("validation", task, count, 0, frozenset())

    def unseen(self, task: str, count: int) -> list[Item]:
        """Return different items of one task that hold no withheld fact, at most ``count``.

        None of them is a training text.
        """
        return self._different("train", task, count, _MAX_INDEX // 2, self._trained)

    @cached_property
    def _trained(self) -> frozenset[str]:
        return frozenset(self.train())

    def _different(
        self, split: Split, task: str, count: int, first: int, without: frozenset[str]
    ) -> list[Item]:
        """Return the different items among a number of draws, fewer where there are not so many."""
        facts, chosen = self.facts(split), _tasks((task,))
        drawn: dict[str, Item] = {}
        for index in range(first, first + _DRAWS * count):
            item = build_item(self._config.seed, split, index, chosen, facts)
            if item.text not in without:
                drawn.setdefault(item.text, item)
            if len(drawn) == count:
                break
        return list(drawn.values())

    def facts(self, split: Split) -> Facts:
        """Return which facts may stand in a split."""
        return Facts(self._config.seed, self._config.withheld, split == "validation")

    def fingerprint(self) -> str:
        """Name the text: seed, sizes, withheld share, tasks and the edition of the grammar."""
        train, validation = self._sizes["train"], self._sizes["validation"]
        chosen = "all" if self.tasks == tuple(TASKS) else "+".join(self.tasks)
        return (
            f"skills-{_edition()}-s{self._config.seed}-t{train}-v{validation}"
            f"-w{self._config.withheld:g}-{chosen}"
        )

    def describe(self) -> str:
        """Say in one sentence what the text is and where it came from."""
        which = "task" if len(self.tasks) == 1 else "tasks"
        return (
            f"{self._sizes['train']:,} training and {self._sizes['validation']:,} validation items "
            f"of {len(self.tasks)} {which} in plain text, generated by tinylm's grammar of tasks "
            f"(seed {self._config.seed}), {100 * self._config.withheld:g}% of whose facts stand "
            "in no training item."
        )


def build_item(seed: int, split: Split, index: int, tasks: Sequence[str], facts: Facts) -> Item:
    """Return item ``index`` of ``split``, the same on every machine.

    Args:
        seed: of the items.
        split: that it belongs to.
        index: from 0.
        tasks: of which one is drawn.
        facts: of the split.

    Raises:
        DataError: if ``seed`` or ``index`` is negative or ``index`` is 2**48 or more, or no item
            of the split can be made.
    """
    if seed < 0 or not 0 <= index < _MAX_INDEX:
        raise DataError(
            f"item {index} of seed {seed} does not exist; both must be 0 or more, "
            f"the item below {_MAX_INDEX}"
        )
    base = ((seed * len(_SPLITS) + _SPLITS.index(split)) * _MAX_INDEX + index) << 16
    task = tasks[int(random.Random(base).random() * len(tasks))]
    for attempt in range(1, _ATTEMPTS):
        item = TASKS[task](random.Random(base + attempt).random, facts)
        if item is not None:
            return item
    raise DataError(
        f"data.withheld leaves the task {task} no {split} item: choose a share that is further "
        "from 0 and 1, such as 0.1"
    )


def _tasks(names: Sequence[str]) -> tuple[str, ...]:
    """Return the tasks that settings name; none: all."""
    for name in names:
        if name not in TASKS:
            raise DataError(f"data.tasks: unknown task {shown(name)}{nearest(name, TASKS)}")
        if names.count(name) > 1:
            raise DataError(f"data.tasks: {name} stands there twice: give each task once")
    return tuple(names) or tuple(TASKS)


@cache
def _edition() -> str:
    file = Path(__file__)
    return edition([file, *(file.parent / "skill_grammar").rglob("*.py")])
