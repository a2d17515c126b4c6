"""WordPiece: a word is cut from the left into the longest pieces that the vocabulary has.

The tokenizer of BERT (Schuster and Nakajima 2012, Devlin et al. 2019). Texts are cut into words and
single marks (``bert_words``), white space is dropped. Of a word the longest piece that it begins
with is taken, then the longest that goes on, written with ``##`` in the vocabulary, and so forth.
A word of which a part cannot be had so, or that is longer than ``longest_word``, becomes ``<unk>``
whole. Greedy is not best: a vocabulary with ``un``, ``una`` and ``##able`` has no way to cut
``unable``.

Training (``wordpiece_training``) is that of byte-pair encoding with ``##``, or by the gain of
likelihood.

Two paths give the same ids, as for ``unigram``: plain Python for short texts, and for longer ones a
compiled loop that finds the words and knows each again (``loops.numbering``).

Ids: special tokens, then pieces. They are those of a ``WordPiece`` model of Hugging Face
``tokenizers`` with the same vocabulary.

The price: not lossless. White space, control characters, unknown words, and with ``lowercase`` and
``strip_accents`` case and accents are lost; ``decode`` puts spaces where they commonly stand
(``wordpiece_writer``), so that the text of a prefix of the ids is a prefix of the text.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.errors import ConfigError, DataError, shown
from tinylm.fingerprints import fingerprint_of
from tinylm.reading.shapes import Refuse
from tinylm.tokenizers import wordpiece_file, wordpiece_hugging_face
from tinylm.tokenizers.base import SPECIAL_TOKENS, UNK_ID, TokenizerSettings, checked_id
from tinylm.tokenizers.bert_words import WordRule, kinds_of_characters
from tinylm.tokenizers.counted_words import Words
from tinylm.tokenizers.splitting import BERT
from tinylm.tokenizers.wordpiece_training import CONTINUES, alphabet, learn
from tinylm.tokenizers.wordpiece_writer import PieceWriter
from tinylm.value_types import FROZEN, Int, PositiveInt

if TYPE_CHECKING:
    from tinylm.tokenizers.loops.counting import WordTable
    from tinylm.tokenizers.loops.numbering import Encoder

_COMPILED_MIN_CHARS = 1 << 12
"""Below this plain Python takes less time than loading the compiled loop."""
_KEPT = 1 << 14
"""Words that are remembered with their ids on the plain path."""


@dataclass(frozen=True, config=FROZEN)
class WordPieceSettings(TokenizerSettings):
    """WordPiece, greedy and longest first."""

    kind: str = wordpiece_file.KIND
    vocab_size: Annotated[Int, Field(ge=1, le=1 << 20)] = 4096
    """Largest vocabulary, the special tokens and the characters included."""
    min_frequency: PositiveInt = 2
    """A pair seen less often than this in the training split is not merged."""
    lowercase: bool = False
    """Whether words are in lower case."""
    strip_accents: bool = False
    """Whether accents are stripped: é becomes e."""
    score: Literal["count", "likelihood"] = "count"
    """Which pair is merged next: the most frequent one, or that whose count divided by those of
    its parts is greatest."""
    alphabet_size: PositiveInt = 1000
    """Most characters that are pieces, the most frequent ones; a word with another is <unk>."""
    longest_word: PositiveInt = 100
    """A word of more characters than this is <unk>."""


class _Words(dict[str, list[int]]):
    """The ids of words, each worked out when it is first asked for."""

    def __init__(self, ids: dict[str, int], longest: int) -> None:
        super().__init__()
        self._ids = ids
        self._longest = longest
        self._longest_piece = max(map(len, ids), default=1)

    def __missing__(self, word: str) -> list[int]:
        if len(self) >= _KEPT:
            self.clear()
        ids = self[word] = self.cut(word)
        return ids

    def cut(self, word: str) -> list[int]:
        """Return the ids of a word, the longest piece first."""
        if len(word) > self._longest:
            return [UNK_ID]
        ids: list[int] = []
        start, prefix = 0, ""
        while start < len(word):
            end = min(len(word), start + self._longest_piece)
            while end > start:
                token = self._ids.get(prefix + word[start:end])
                if token is not None:
                    break
                end -= 1
            else:
                return [UNK_ID]
            ids.append(token)
            start, prefix = end, CONTINUES
        return ids


class WordPieceTokenizer:
    """Texts to ids of WordPiece and back.

    Args:
        content: vocabulary and rule.

    Raises:
        DataError: if the vocabulary cannot be used.
    """

    def __init__(self, content: wordpiece_file.Content) -> None:
        wordpiece_file.check(content, DataError)
        self._content = content
        self._special = (*SPECIAL_TOKENS, *content.special)
        self._vocabulary = [*self._special, *content.pieces]
        first = len(self._special)
        ids = {piece: first + place for place, piece in enumerate(content.pieces)}
        self._words = _Words(ids, content.longest_word)
        self._compiled: Encoder | None = None
        self._integers: npt.NDArray[np.object_] | None = None

    Settings = WordPieceSettings
    label = "WordPiece"
    explanation = (
        "The tokenizer is WordPiece [[schuster2012]][[devlin2019]]: pairs of neighbouring pieces "
        "that are frequent in the training split become pieces, and a word is cut from the left "
        "into the longest that there are. A word that cannot be cut becomes `<unk>` whole. Spaces "
        "and line breaks are not in the tokens: decoding puts spaces where they commonly stand."
    )
    trained = True
    lossless = False
    whole_words = False
    size_setting = "vocab_size"
    foreign_model = "WordPiece"

    @classmethod
    def largest_vocabulary(cls, config: WordPieceSettings) -> int:
        """Return the limit that was set."""
        return config.vocab_size

    @classmethod
    def train(cls, texts: Iterable[str], config: WordPieceSettings) -> WordPieceTokenizer:
        """Learn pieces from training texts, read once as a stream.

        Memory grows with the number of different words, not with the corpus.

        Raises:
            ConfigError: if the vocabulary is smaller than the alphabet.
            DataError: if the texts hold no word.
        """
        counts = cls.counts(config)
        counts.add(texts)
        return cls.learn(counts, config)

    @classmethod
    def counts(cls, config: WordPieceSettings) -> WordTable:
        """Return what counts the words of texts."""
        # Here, not above: settings are read without numba.
        from tinylm.tokenizers.loops.counting import WordTable

        rule = WordRule(config.lowercase, config.strip_accents)
        return WordTable(BERT, kinds_of_characters(), rule.cleaned)

    @classmethod
    def learn(cls, counts: WordTable, config: WordPieceSettings) -> WordPieceTokenizer:
        """Learn pieces from the words of training texts; see ``train``.

        Raises:
            ConfigError: if the vocabulary is smaller than the alphabet.
            DataError: if the texts hold no word.
        """
        rule = WordRule(config.lowercase, config.strip_accents)
        words = Words.of_table(counts)
        if not len(words.uses):
            raise DataError("the training texts hold no word: give more text")
        first = len(SPECIAL_TOKENS) + len(config.special_tokens)
        characters = alphabet(words, config.alphabet_size)
        if config.vocab_size < first + len(characters):
            raise ConfigError(
                f"tokenizer.vocab_size = {config.vocab_size} has no room for the alphabet, "
                f"{len(characters)} characters at the start of words and within beside {first} "
                f"special tokens: set it to {first + len(characters)} or more"
            )
        pieces = learn(
            words,
            characters,
            config.vocab_size - first,
            config.min_frequency,
            likelihood=config.score == "likelihood",
        )
        return cls(
            wordpiece_file.Content(
                pieces=pieces,
                rule=rule,
                longest_word=config.longest_word,
                min_frequency=config.min_frequency,
                special=config.special_tokens,
            )
        )

    # --- text to ids ---

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``, without framing tokens."""
        if len(text) >= _COMPILED_MIN_CHARS:
            return self.encode_batch([text])[0]
        return self._encode_plain(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without framing tokens."""
        if sum(map(len, texts)) < _COMPILED_MIN_CHARS:
            return [self._encode_plain(text) for text in texts]
        from tinylm.tokenizers.loops.counting import lists

        if self._integers is None:
            self._integers = np.arange(self.vocab_size).astype(object)
        return lists(*self.encode_flat(texts), self._integers)

    def encode_flat(
        self, texts: Sequence[str]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return all ids in one array, (tokens,), and the bounds of each text, (texts + 1,)."""
        if self._compiled is None:
            from tinylm.tokenizers.loops.numbering import Encoder

            self._compiled = Encoder(
                BERT,
                lambda word: self._words.cut(word.decode()),
                kinds_of_characters(),
                self._content.rule.cleaned,
            )
        return self._compiled(texts)

    def _encode_plain(self, text: str) -> list[int]:
        words = self._content.rule.split(text)
        return list(itertools.chain.from_iterable(map(self._words.__getitem__, words)))

    def unknown_words(self, texts: Iterable[str]) -> Counter[str]:
        """Return how often each word that is read as ``<unk>`` stands in texts."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(word for word in self._content.rule.split(text) if self._unknown(word))
        return counts

    def _unknown(self, word: str) -> bool:
        return self._words[word] == [UNK_ID]

    def with_words(self, words: Sequence[str]) -> WordPieceTokenizer:
        """Return the same tokenizer with more words, whose ids follow all others.

        Those that it can cut are left out.

        Raises:
            ConfigError: for what is not one word of the rule, or longer than words may be.
        """
        for word in words:
            if self._content.rule.split(word) != [word] or len(word) > self._content.longest_word:
                raise ConfigError(
                    f"{shown(word)} is not one word of the tokenizer: give words and marks as it "
                    "cuts them, each alone"
                )
        more = [word for word in dict.fromkeys(words) if self._unknown(word)]
        if not more:
            return self
        return WordPieceTokenizer(replace(self._content, pieces=[*self._content.pieces, *more]))

    # --- ids to text ---

    def decode(self, ids: Sequence[int]) -> str:
        """Return readable text; special tokens other than ``<unk>`` are left out.

        Raises:
            DataError: if an id is not of this vocabulary.
        """
        writer = PieceWriter()
        further = range(len(SPECIAL_TOKENS), len(self._special))
        return "".join(
            [
                writer.write(index, self.token(index))
                for index in map(int, ids)
                if index not in further
            ]
        )

    def decode_batch(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """Return the readable text of each row."""
        return [self.decode(ids) for ids in batch]

    # --- the vocabulary ---

    @property
    def vocab_size(self) -> int:
        """Number of token types, the special ones included."""
        return len(self._vocabulary)

    @property
    def spellings(self) -> None:
        """None: spaces between tokens hang on those beside them."""
        return None

    @property
    def types_seen(self) -> int:
        """Number of pieces: none is left out."""
        return len(self._content.pieces)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The names of the special tokens, by id."""
        return self._special

    def token(self, token_id: int) -> str:
        """Return a special token's name or a piece, with ``##`` if it goes on a word.

        Raises:
            DataError: if there is no such id.
        """
        return self._vocabulary[checked_id(token_id, self.vocab_size)]

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of the SHA-256 of all that decides ids."""
        rule, longest = self._content.rule, self._content.longest_word
        parts = [wordpiece_file.KIND, rule.lowercase, rule.strip_accents, longest]
        return fingerprint_of([*parts, len(self._special), self._vocabulary])

    # --- files ---

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as one JSON file, by a temporary name and a rename.

        Raises:
            DataError: if the file cannot be written.
        """
        wordpiece_file.write(path, self._content)

    @classmethod
    def load(cls, path: str | Path) -> WordPieceTokenizer:
        """Read a tokenizer written by ``save``, and check all of it.

        Raises:
            DataError: if the file is missing, malformed, changed or of another kind.
        """
        return cls(wordpiece_file.read(path))

    def to_hugging_face(self) -> dict[str, Any]:
        """Return the tokenizer as a file of Hugging Face ``tokenizers`` holds it."""
        return wordpiece_hugging_face.written(self._content)

    @classmethod
    def from_hugging_face(cls, content: dict[str, Any], refuse: Refuse) -> WordPieceTokenizer:
        """Return the tokenizer of a file of Hugging Face ``tokenizers``.

        Raises:
            TinylmError: ``refuse``'s, naming what this tokenizer has no equal of.
        """
        return cls(wordpiece_hugging_face.read(content, refuse))
