"""Where stories come from: one corpus a file, all behind ``Corpus``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tinylm.config import DataConfig
from tinylm.registry import CORPORA

if TYPE_CHECKING:
    from tinylm.data.corpora.pairs import Pair


class Corpus(Protocol):
    """Train and validation story iterators; each call starts again from the first story.

    A corpus class is made from a ``DataConfig``. Only the train split may train anything.
    """

    def train(self) -> Iterator[str]:
        """Yield training stories, whole texts without framing tokens."""
        ...

    def validation(self) -> Iterator[str]:
        """Yield validation stories, disjoint from the training stories."""
        ...

    def fingerprint(self) -> str:
        """Name the exact text: equal for equal content and settings, short enough for a path."""
        ...

    def describe(self) -> str:
        """Say in one sentence what the text is and where it came from, for the report."""
        ...


@runtime_checkable
class PairCorpus(Corpus, Protocol):
    """A corpus of sources with targets, whose ``train`` and ``validation`` yield their texts."""

    def train_pairs(self) -> Iterator[Pair]:
        """Yield training pairs."""
        ...

    def validation_pairs(self) -> Iterator[Pair]:
        """Yield validation pairs."""
        ...


@runtime_checkable
class DivisibleCorpus(Corpus, Protocol):
    """A corpus whose splits may be read in parts, each by another process."""

    def parts(self, split: str, size: int) -> list[tuple[int, int]] | None:
        """Return where parts of so many bytes at most begin and end; None: it has none."""
        ...

    def part(self, split: str, first: int, last: int) -> Iterator[tuple[str, ...]]:
        """Yield the texts of a part, or sources each with its target."""
        ...

    def counted(self, train: int, validation: int) -> None:
        """Take the numbers of what both splits hold, which then need not be counted again."""
        ...


def holds_pairs(name: str) -> bool:
    """Whether the corpus of a name holds pairs; nothing is read."""
    return hasattr(CORPORA.load(name), "train_pairs")


def reads_files(name: str) -> bool:
    """Whether the corpus of a name reads the user's files, those of ``data.path``."""
    return hasattr(CORPORA.load(name), "suffixes")


def open_corpus(config: DataConfig) -> Corpus:
    """Make the corpus that ``config.corpus`` names.

    Raises:
        DataError: if its files or settings cannot be used.
    """
    corpus: Corpus = CORPORA.load(config.corpus)(config)
    return corpus
