"""What a word vocabulary is made from: how often each type is used, and in which form where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tinylm.errors import ConfigError
from tinylm.tokenizers.base import SPECIAL_TOKENS
from tinylm.tokenizers.word_arrays import ascii_tokens, in_text, joined, text_ends
from tinylm.tokenizers.word_case import Case, Kind, Place, all_places, capital, kind, place
from tinylm.tokenizers.word_rule import (
    CLOSING,
    DASH,
    LINE_BREAK,
    LINE_BREAK_AFTER_SPACE,
    OPENING,
    Rule,
    normalise,
)

if TYPE_CHECKING:
    from tinylm.tokenizers.word import WordSettings

RULE = Rule()
"""Counts tell apart all that the newest version does; ``of`` gives those of another."""
_CHARACTERS_AT_ONCE = 1 << 22
_PLACES = np.array(all_places(), dtype=np.int8)
_IS_CAPITAL = np.array([ord("A") <= code <= ord("Z") for code in range(256)])
_UNMARKED = {marked: mark for sides in (OPENING, CLOSING) for mark, marked in sides.items()} | {
    DASH: "-"
}


@dataclass
class WordCounts:
    """What training needs to know of a corpus."""

    all: Counter[str] = field(default_factory=Counter)
    """Uses of each type."""
    words: Counter[tuple[Place, str]] = field(default_factory=Counter)
    """Uses of each word by place, but for starts of sentences."""
    forms: Counter[tuple[Place, str, str]] = field(default_factory=Counter)
    """Those of them that are not in lower case, by form."""

    def add_reference(self, text: str) -> None:
        """Count one text on the reference path."""
        words = RULE.split(text)
        self.all.update(words)
        written = RULE.split_written(text)
        if len(written) != len(words):  # a lower-case form with other classes: no evidence of case
            return
        before = [Kind.NOTHING] * 3
        for word, form in zip(words, written, strict=True):
            if word[0].isalpha() and (here := place(*before)) != Place.START:
                self.words[here, word] += 1
                if form != word:
                    self.forms[here, word, form] += 1
            before = [*before[1:], kind(word)]

    def add(self, texts: Iterable[str]) -> None:
        """Count texts, read once as a stream, on the compiled path where it applies."""
        batch: list[str] = []
        size = 0
        for text in texts:
            batch.append(text)
            size += len(text)
            if size >= _CHARACTERS_AT_ONCE:
                self._add(batch)
                batch, size = [], 0
        self._add(batch)

    def packed(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "all": dict(self.all),
            "words": [[int(place), word, n] for (place, word), n in self.words.items()],
            "forms": [[int(place), *both, n] for (place, *both), n in self.forms.items()],
        }

    def add_packed(self, packed: dict[str, Any]) -> None:
        """Add the counts of other texts."""
        self.all.update(packed["all"])
        for here, word, count in packed["words"]:
            self.words[Place(here), word] += count
        for here, word, form, count in packed["forms"]:
            self.forms[Place(here), word, form] += count

    def _add(self, texts: Sequence[str]) -> None:
        plain = []
        for text in map(normalise, texts):
            if text.isascii():
                plain.append(text)
            else:
                self.add_reference(text)
        types: dict[bytes, int] = {}
        windows = [
            (tokens.starts, _numbers(tokens.words, types)) for tokens in ascii_tokens(plain, RULE)
        ]
        if not types:
            return
        starts = np.concatenate([starts for starts, _ in windows])
        tokens = np.concatenate([numbers for _, numbers in windows])
        names = [in_text(name) for name in types]
        for name, count in zip(names, np.bincount(tokens).tolist(), strict=True):
            self.all[name] += count

        # Of each word where no sentence starts: how many capitals it is written with.
        places = _places(tokens, names, np.searchsorted(starts, [0, *(text_ends(plain) + 1)[:-1]]))
        is_word = np.array([name[0].isalpha() for name in names])
        counted = np.flatnonzero(is_word[tokens] & (places != Place.START))
        tokens, places, starts = tokens[counted], places[counted], starts[counted]
        blob = joined(plain)
        before = np.zeros(len(blob) + 1, dtype=np.int32)  # capitals before each byte
        np.cumsum(_IS_CAPITAL[np.frombuffer(blob, dtype=np.uint8)], out=before[1:])
        lengths = np.array([len(name) for name in types])[tokens]
        capitals = before[starts + lengths] - before[starts]
        first = before[starts + 1] - before[starts]

        pairs = places.astype(np.int64) * len(names) + tokens
        simple = (capitals == 1) & (first == 1)
        for pair, count in _counted(pairs):
            self.words[Place(pair // len(names)), names[pair % len(names)]] += count
        for pair, count in _counted(pairs[simple]):
            name = names[pair % len(names)]
            self.forms[Place(pair // len(names)), name, capital(name)] += count
        for i in np.flatnonzero((capitals > 0) & ~simple).tolist():
            form = blob[starts[i] : starts[i] + lengths[i]].decode("ascii")
            self.forms[Place(int(places[i])), names[tokens[i]], form] += 1

    def of(self, rule: Rule) -> Counter[str]:
        """Return the uses of each type by another version of the rule."""
        if rule == RULE:
            return self.all
        together: Counter[str] = Counter()
        for name, count in self.all.items():
            if rule.version == 1:
                name = _UNMARKED.get(name, name)
            if rule.keeps_breaks or name not in (LINE_BREAK, LINE_BREAK_AFTER_SPACE):
                together[name] += count
        return together

    def case(self) -> Case:
        """Return the commonest form of each word at each place."""
        counts: dict[Place, dict[str, Counter[str]]] = {}
        for (here, word), count in self.words.items():
            counts.setdefault(here, {})[word] = Counter({word: count})
        for (here, word, form), count in self.forms.items():
            counts[here][word][form] += count
            counts[here][word][word] -= count
        return Case.of_counts(counts)


def refuse_settings(config: WordSettings) -> None:
    """Refuse settings by which no vocabulary can be built.

    Raises:
        ConfigError: if version 1 of the rule is to keep line breaks, or the special tokens fill the
            vocabulary.
    """
    if config.rule == 1 and config.line_breaks:
        raise ConfigError(
            "tokenizer.rule = 1 has no line breaks: set tokenizer.line_breaks = false as well"
        )
    first = len(SPECIAL_TOKENS) + len(config.special_tokens)
    if config.max_size <= first:
        raise ConfigError(
            f"tokenizer.max_size = {config.max_size} leaves no word beside {first} special "
            f"tokens: set it to {first + 1} or more"
        )


def _numbers(words: Any, types: dict[bytes, int]) -> npt.NDArray[np.int64]:
    """Return the words of an Arrow array as numbers of types, (words,); new types are added."""
    encoded = words.dictionary_encode()
    numbers = [types.setdefault(name, len(types)) for name in encoded.dictionary.to_pylist()]
    places: npt.NDArray[np.int32] = encoded.indices.to_numpy()
    return np.array(numbers, dtype=np.int64)[places]


def _places(
    tokens: npt.NDArray[np.int64], names: Sequence[str], firsts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int8]:
    """Return the place of each token, (tokens,), if it is a word; texts begin at ``firsts``."""
    kinds = np.array([kind(name) for name in names])[tokens]
    firsts = firsts[firsts < len(tokens)]
    before = kinds
    index = np.zeros_like(kinds)
    for weight in (1, len(Kind), len(Kind) ** 2):
        before = np.roll(before, 1)
        before[firsts] = Kind.NOTHING
        index += weight * before
    result: npt.NDArray[np.int8] = _PLACES[index]
    return result


def _counted(numbers: npt.NDArray[np.int64]) -> Iterable[tuple[int, int]]:
    counts = np.bincount(numbers)
    used = np.flatnonzero(counts)
    return zip(used.tolist(), counts[used].tolist(), strict=True)
