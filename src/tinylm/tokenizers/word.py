"""Words, numbers and punctuation marks: the word-level tokenizer.

The rule (version 2), the same in training and encoding:

1. *Normalise.* Typographic quotes become ``"`` and ``'``, hyphens and the en dash ``-``, the em
   dash ``--``, the ellipsis ``...``; so do their double-encoded forms (UTF-8 read as cp1252 or
   latin-1, such as ``â€œ``), which the text files of TinyStories contain. Every kind of line break
   becomes ``\\n``.
2. *Lower-case*, by ``str.lower``.
3. *Tell marks apart* by what stands beside them. A quotation mark opens (``“``, ``‘``) after white
   space, an opening bracket or nothing, and before a letter or digit unless one stands before it
   too; else it closes (``”``, ``’``); marks in a row do the same. Hyphens with white space on both
   sides are dashes (``–``). A line break after white space is another (``" \\n"``) than one that
   is not.
4. *Split.* A word is a run of letters (Unicode category L) and of the combining marks (M) after
   them; an apostrophe between letters belongs to the word (``don't``). A number is a run of
   decimal digits (Nd). A line break is a token, if the vocabulary has it. Every other character
   that is not white space is a token of its own.

Version 1, of tokenizers made before, has no step 3, and line breaks are white space to it. Files of
both are read, and give the ids and the texts that they always gave.

The vocabulary is ``<pad>``, ``<unk>``, ``<sos>``, ``<eos>``, then types by falling frequency, ties
in code-point order, so that it does not depend on the order of the texts. A special token's name
inside a text is split like any other text (``<``, ``eos``, ``>``) and never becomes its id. Where
the vocabulary holds a mark in one of two forms only, that stands for both.

Two paths give the same ids. The *reference path* (``word_rule``) is ``re.findall`` and a dict. The
*compiled path* (``word_arrays``) finds token boundaries of ASCII text with a handful of NumPy
operations over bytes and looks all tokens up in one Arrow hash table; text that is not ASCII after
step 1 takes the reference path.
``benchmarks/tokenizing.py`` measures both; on one core of a shared AMD EPYC and real TinyStories
the compiled path does 62 MB/s into Python lists (``encode_batch``) and 89 MB/s into one array
(``encode_flat``), the reference path 14 MB/s, Hugging Face ``tokenizers`` 6 MB/s.

The price of a rule this plain: case is not in the ids, nor any spacing but the above, and unseen
words are lost as ``<unk>``. ``decode`` restores spacing (``word_writer``) and case (``word_case``)
by what stands to the left, so that the text of a prefix of the ids is a prefix of the text. How
often a text comes back as it was is measured by ``tinylm experiment data``.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.errors import ConfigError, DataError, shown
from tinylm.fingerprints import fingerprint_of
from tinylm.reading.shapes import Refuse
from tinylm.tokenizers import word_file, word_writer, word_writer_v1
from tinylm.tokenizers.base import SPECIAL_TOKENS, UNK_ID, TokenizerSettings, checked_id
from tinylm.tokenizers.word_case import Case
from tinylm.tokenizers.word_rule import (
    CLOSING,
    DASH,
    LINE_BREAK,
    LINE_BREAK_AFTER_SPACE,
    OPENING,
    Rule,
    normalise,
)
from tinylm.value_types import FROZEN, Int, PositiveInt

if TYPE_CHECKING:
    from tinylm.tokenizers.word_arrays import Lookup
    from tinylm.tokenizers.word_counts import WordCounts

_COMPILED_MIN_CHARS = 1 << 13
"""Below this the fixed cost of the compiled path (the hash table) exceeds its gain."""
_PAIRS = (
    (LINE_BREAK, LINE_BREAK_AFTER_SPACE),
    ("-", DASH),
    *((OPENING[mark], CLOSING[mark]) for mark in OPENING),
)
"""Marks of which one stands for the other if the vocabulary lacks it."""


@dataclass(frozen=True, config=FROZEN)
class WordSettings(TokenizerSettings):
    """Words, numbers and punctuation marks."""

    min_frequency: PositiveInt = 2
    """A type seen less often than this in the training split becomes <unk>."""
    max_size: Annotated[Int, Field(ge=5)] = 10_000
    """Largest vocabulary, the special tokens included."""
    line_breaks: bool = True
    """Keep line breaks, each as a token of the vocabulary; false: they are white space."""
    rule: Literal[1, 2] = 2
    """Version of the word rule; 1, of runs made before, knows no line breaks and takes quotes and
    dashes as they stand."""
    more_words: tuple[str, ...] = ()
    """Words that the vocabulary holds after those of the text, such as those of instructions; they
    do not count for max_size."""


class WordTokenizer:
    """Words, numbers and punctuation marks to ids and back, by the rule in this module's docstring.

    Args:
        words: the vocabulary without the special tokens, in id order from 4 on.
        case: in which form ``decode`` writes words; or names alone, which it writes with a capital
            unless they follow a determiner ("his mom").
        rule_version: of the rule; 1 is that of tokenizers made before.
        min_frequency: the threshold that ``words`` was built with, kept for the record.
        max_size: the largest vocabulary that was allowed, kept for the record.
        types_seen: types of the training texts before any were cut, kept for the record; empty:
            as many as there are words.
        special: names of special tokens beside the standard ones, whose ids follow theirs; those
            of ``words`` follow these.

    Raises:
        DataError: if ``words`` repeats a type or contains the name of a special token.
    """

    def __init__(
        self,
        words: Iterable[str],
        case: Case | Iterable[str] = (),
        *,
        rule_version: int = 2,
        min_frequency: int = 1,
        max_size: int | None = None,
        types_seen: int | None = None,
        special: Sequence[str] = (),
    ) -> None:
        self._special = (*SPECIAL_TOKENS, *special)
        self._vocabulary = [*self._special, *words]
        self._ids = {word: index for index, word in enumerate(self._vocabulary)}
        if len(self._ids) != len(self._vocabulary):
            twice = next(word for word, count in Counter(self._vocabulary).items() if count > 1)
            raise DataError(f"the vocabulary holds {shown(twice)} twice: give each type once")
        self._case = case if isinstance(case, Case) else Case.of_names(case)
        breaks = LINE_BREAK in self._ids or LINE_BREAK_AFTER_SPACE in self._ids
        self.rule = Rule(rule_version, line_breaks=breaks)
        """How text is cut into tokens."""
        if rule_version > 1:
            for pair in _PAIRS:
                for missing, known in (pair, pair[::-1]):
                    if missing not in self._ids and known in self._ids:
                        self._ids[missing] = self._ids[known]
        self._min_frequency = min_frequency
        self._max_size = max_size
        self._types_seen = types_seen
        self._lookup: Lookup | None = None
        self._integers: npt.NDArray[np.object_] | None = None

    Settings = WordSettings
    label = "words"
    explanation = (
        "The tokenizer works on words: text is lower-cased and split into words, numbers and "
        "single punctuation marks by fixed rules; decoding restores spaces and capitals. Line "
        "breaks and the distinction of opening and closing quotation marks are kept in the tokens; "
        "case is not, and is restored from the preceding words."
    )
    trained = True
    lossless = False
    whole_words = True
    size_setting = "max_size"
    foreign_model = ""

    @classmethod
    def largest_vocabulary(cls, config: WordSettings) -> int:
        """Return the limit that was set."""
        return config.max_size + len(config.more_words)

    @classmethod
    def train(cls, texts: Iterable[str], config: WordSettings) -> WordTokenizer:
        """Build the vocabulary from training texts, read once as a stream.

        Memory grows with the number of distinct types, not with the corpus.

        Raises:
            ConfigError: if version 1 of the rule is to keep line breaks, or the special tokens fill
                the vocabulary.
            DataError: if no type is frequent enough for the vocabulary.
        """
        counts = cls.counts(config)
        counts.add(texts)
        return cls.learn(counts, config)

    @classmethod
    def counts(cls, config: WordSettings) -> WordCounts:
        """Return what counts the words of texts.

        Raises:
            ConfigError: if version 1 of the rule is to keep line breaks, or the special tokens fill
                the vocabulary.
        """
        # Here, not above: settings are read without Arrow.
        from tinylm.tokenizers.word_counts import WordCounts, refuse_settings

        refuse_settings(config)
        return WordCounts()

    @classmethod
    def learn(cls, counts: WordCounts, config: WordSettings) -> WordTokenizer:
        """Build the vocabulary from the words of training texts; see ``train``.

        Raises:
            DataError: if no type is frequent enough for the vocabulary.
        """
        first = len(SPECIAL_TOKENS) + len(config.special_tokens)
        uses = counts.of(Rule(config.rule, line_breaks=config.line_breaks))
        kept = sorted(
            (word for word, count in uses.items() if count >= config.min_frequency),
            key=lambda word: (-uses[word], word),
        )[: config.max_size - first]
        if not kept:
            raise DataError(
                f"no word of the training texts occurs {config.min_frequency} times: "
                "give more text, or lower tokenizer.min_frequency"
            )
        return cls(
            kept,
            counts.case().of_words(kept),
            rule_version=config.rule,
            min_frequency=config.min_frequency,
            max_size=config.max_size,
            types_seen=len(uses),
            special=config.special_tokens,
        ).with_words(config.more_words)

    def with_words(self, words: Sequence[str]) -> WordTokenizer:
        """Return the same tokenizer with more words, whose ids follow all others.

        Those that it has are left out. What it was trained on says nothing of their case: they are
        written in lower case, with a capital where a sentence starts.

        Raises:
            ConfigError: for what the word rule does not take as one token.
        """
        for word in words:
            if self.rule.split(word) != [word]:
                raise ConfigError(
                    f"tokenizer.more_words: {shown(word)} is not one word of the rule: give words, "
                    "numbers and marks in lower case, each alone"
                )
        more = [word for word in dict.fromkeys(words) if word not in self._ids]
        if not more:
            return self
        return WordTokenizer(
            [*self.words, *more],
            self._case,
            rule_version=self.rule.version,
            min_frequency=self._min_frequency,
            max_size=self._max_size,
            types_seen=self.types_seen + len(more),
            special=self._special[len(SPECIAL_TOKENS) :],
        )

    # --- text to ids ---

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``, without framing tokens; an unknown word is ``<unk>``."""
        if len(text) >= _COMPILED_MIN_CHARS:
            return self.encode_batch([text])[0]
        return self._encode_reference(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without framing tokens."""
        if sum(map(len, texts)) < _COMPILED_MIN_CHARS:
            return [self._encode_reference(text) for text in texts]
        ids, bounds, others = self._encode_ascii(texts)
        # One Python integer a type, shared by all its uses: ids.tolist() would make one a token.
        if self._integers is None:
            self._integers = np.arange(len(self._vocabulary)).astype(object)
        integers, places = self._integers[ids], bounds.tolist()
        rows = [integers[start:end].tolist() for start, end in itertools.pairwise(places)]
        for row, other in others.items():
            rows[row] = other
        return rows

    def encode_flat(
        self, texts: Sequence[str]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return all ids in one array, for token files; no Python integers are made.

        Returns:
            ``ids``, shape ``(tokens,)``, and ``bounds``, shape ``(texts + 1,)``: the ids of text
            ``i`` are ``ids[bounds[i]:bounds[i + 1]]``, equal to ``encode(texts[i])``.
        """
        ids, bounds, others = self._encode_ascii(texts)
        if not others:
            return ids, bounds
        lengths = np.diff(bounds)
        parts: list[npt.NDArray[np.int32]] = []
        done = 0
        for row, other in others.items():
            parts += [ids[done : bounds[row]], np.array(other, dtype=np.int32)]
            done = int(bounds[row])  # the row itself is empty in ``ids``
            lengths[row] = len(other)
        parts.append(ids[done:])
        return np.concatenate(parts), np.concatenate(([0], np.cumsum(lengths)))

    def _encode_reference(self, text: str) -> list[int]:
        get = self._ids.get
        return [get(word, UNK_ID) for word in self.rule.split(text)]

    def _encode_ascii(
        self, texts: Sequence[str]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], dict[int, list[int]]]:
        """Encode on the compiled path; rows that are not ASCII are empty there and in the dict."""
        from tinylm.tokenizers.word_arrays import Lookup, ascii_tokens, text_ends

        plain = list(texts)
        others: dict[int, list[int]] = {}
        for row, text in enumerate(plain):
            if not text.isascii() or "\r" in text:
                plain[row] = normalise(text)
                if not plain[row].isascii():
                    others[row] = self._encode_reference(text)
                    plain[row] = ""
        if self._lookup is None:
            self._lookup = Lookup(self._ids)
        ids = [np.empty(0, dtype=np.int32)]
        starts = [np.empty(0, dtype=np.int64)]
        for tokens in ascii_tokens(plain, self.rule):
            ids.append(self._lookup(tokens.words))
            starts.append(tokens.starts)
        bounds = np.searchsorted(np.concatenate(starts), text_ends(plain))
        return np.concatenate(ids), np.concatenate(([0], bounds)), others

    def pieces(self, text: str) -> list[str]:
        """Return the string tokens of ``text`` before they are looked up."""
        return self.rule.split(text)

    def unknown_words(self, texts: Iterable[str]) -> Counter[str]:
        """Return how often each word that is read as ``<unk>`` stands in texts.

        Marks that the rule takes in another form where they stand alone are left out.
        """
        counts = Counter(
            piece for text in texts for piece in self.rule.split(text) if piece not in self._ids
        )
        return Counter(
            {word: count for word, count in counts.items() if self.rule.split(word) == [word]}
        )

    # --- ids to text ---

    def decode(self, ids: Sequence[int]) -> str:
        """Return readable text; special tokens other than ``<unk>`` are left out.

        The text of a prefix of ``ids`` is a prefix of the text of ``ids``.

        Raises:
            DataError: if an id is not of this vocabulary.
        """
        writer: word_writer.TextWriter | word_writer_v1.TextWriter
        if self.rule.version == 1:
            writer = word_writer_v1.TextWriter(self._case.names)
        else:
            writer = word_writer.TextWriter(self._case)
        return "".join(
            writer.write(index, self.token(index))
            for index in map(int, ids)
            if not len(SPECIAL_TOKENS) <= index < len(self._special)
        )

    def decode_batch(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """Return the readable text of each row.

        Raises:
            DataError: if an id is not of this vocabulary.
        """
        return [self.decode(ids) for ids in batch]

    # --- the vocabulary ---

    @property
    def vocab_size(self) -> int:
        """Number of token types, the special ones included."""
        return len(self._vocabulary)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The names of the special tokens, by id."""
        return self._special

    @property
    def spellings(self) -> None:
        """None: spaces between tokens hang on those beside them."""
        return None

    @property
    def types_seen(self) -> int:
        """Types of the training texts, those that became ``<unk>`` included."""
        return len(self.words) if self._types_seen is None else self._types_seen

    @property
    def words(self) -> list[str]:
        """The vocabulary without the special tokens, in id order."""
        return self._vocabulary[len(self._special) :]

    @property
    def case(self) -> Case:
        """In which form ``decode`` writes words."""
        return self._case

    def token(self, token_id: int) -> str:
        """Return the token type behind an id, as written in the vocabulary.

        Raises:
            DataError: if there is no such id.
        """
        return self._vocabulary[checked_id(token_id, self.vocab_size)]

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of the SHA-256 of all that decides ids: rule, vocabulary."""
        return fingerprint_of([word_file.KIND, self.rule.version, self._vocabulary])

    # --- the file ---

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as one JSON file, by a temporary name and a rename.

        Raises:
            DataError: if the file cannot be written.
        """
        content = word_file.Content(
            self.rule.version,
            self.words,
            self._case,
            self._min_frequency,
            self._max_size,
            self.types_seen,
            self.fingerprint(),
            self._special[len(SPECIAL_TOKENS) :],
        )
        word_file.write(path, content)

    def to_hugging_face(self) -> dict[str, Any]:
        """Refuse: that library writes neither spaces nor capitals back.

        Raises:
            DataError: always.
        """
        raise DataError(
            "a tokenizer of words cannot be exported: Hugging Face tokenizers has no such rule of "
            "splitting and decoding; train one of kind bpe for that"
        )

    @classmethod
    def from_hugging_face(cls, content: dict[str, Any], refuse: Refuse) -> WordTokenizer:
        """Refuse: that library has no such rule.

        Raises:
            TinylmError: ``refuse``'s.
        """
        raise refuse("no file of Hugging Face tokenizers is read as words")

    @classmethod
    def load(cls, path: str | Path) -> WordTokenizer:
        """Read a tokenizer written by ``save``, and check all of it.

        Raises:
            DataError: if the file is missing, malformed, changed or of another kind.
        """
        content = word_file.read(path)
        tokenizer = cls(
            content.words,
            content.case,
            rule_version=content.rule_version,
            min_frequency=content.min_frequency,
            max_size=content.max_size,
            types_seen=content.types_seen,
            special=content.special,
        )
        if content.fingerprint != tokenizer.fingerprint():
            raise word_file.changed(path, content.fingerprint, tokenizer.fingerprint())
        return tokenizer
