"""Unigram: pieces with probabilities, and of all ways to cut a word the most probable one.

The unigram language model of Kudo (2018), which SentencePiece made known: the probability of a
segmentation is the product of its pieces', each independent of the others. Training
(``unigram_training``) begins with many substrings of the training split and takes away those whose
loss costs least. ``lattice`` has what can be asked of all segmentations: the best, the ``n`` best,
one drawn at random (as a regularisation, each epoch reads a text otherwise), and the probability of
the text over all of them, beside which that of the best one is the usual number.

Texts are first cut into words by a rule (``splitting``), and no piece goes beyond a word. Nothing
stands for a space: words begin with theirs, and so do pieces, so ``▁`` is a character like others
and decoding, which joins the pieces, is lossless. A character that the vocabulary lacks becomes the
bytes of its UTF-8 (256 tokens of the vocabulary), or, without ``byte_fallback``, one ``<unk>`` with
its unknown neighbours in the word, and then is lost. Either way it costs what SentencePiece
charges, the score of the rarest piece less 10.

Ids: special tokens, the bytes if there are, then pieces, the most probable first. They are those of
a ``Unigram`` model of Hugging Face ``tokenizers`` with the same vocabulary and scores; ties are
broken as there, for the piece that starts first.

Two paths give the same ids: plain Python for short texts, and for longer ones a compiled loop that
knows each word again (``loops.numbering``), so that a word is cut once.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.errors import ConfigError, DataError
from tinylm.fingerprints import fingerprint_of
from tinylm.reading.shapes import Refuse
from tinylm.tokenizers import unigram_file, unigram_hugging_face
from tinylm.tokenizers.base import SPECIAL_TOKENS, UNK, UNK_ID, TokenizerSettings, checked_id
from tinylm.tokenizers.lattice import Edge, Lattice, Uniform
from tinylm.tokenizers.lattice import Path as Segmentation
from tinylm.tokenizers.splitting import MARKED, RULES, split
from tinylm.tokenizers.unigram_cutting import Cutter
from tinylm.tokenizers.utf8 import to_bytes, to_text
from tinylm.value_types import FROZEN, Int, PositiveInt

if TYPE_CHECKING:
    from tinylm.tokenizers.loops.counting import WordTable
    from tinylm.tokenizers.loops.numbering import Encoder

_COMPILED_MIN_CHARS = 1 << 12
"""Below this plain Python takes less time than loading the compiled loop."""
_KEPT = 1 << 14
"""Words that are remembered on the plain path."""


@dataclass(frozen=True, config=FROZEN)
class UnigramSettings(TokenizerSettings):
    """A unigram language model of pieces."""

    kind: str = unigram_file.KIND
    vocab_size: Annotated[Int, Field(ge=1, le=1 << 20)] = 4096
    """Largest vocabulary, the special tokens, the bytes and the characters included."""
    min_frequency: PositiveInt = 2
    """What is seen less often than this in the training split is no piece: a pair that is merged, a
    substring, a character."""
    split: Literal["gpt2", "cl100k"] = "gpt2"
    """Rule by which text is cut into words before any piece: that of GPT-2 or of GPT-4 (cl100k)."""
    byte_fallback: bool = True
    """Whether a character that is no piece becomes the bytes of its UTF-8, which take 256 ids; else
    it is <unk>."""
    longest_piece: PositiveInt = 16
    """Most characters of a piece."""
    seed_size: PositiveInt = 1_000_000
    """Most pieces that training begins with."""
    sparse: bool = True
    """Let rare pieces be rarer still in training, by digamma as SentencePiece does; false: plain
    maximum likelihood."""


class UnigramTokenizer:
    """Texts to ids of a unigram model and back.

    Args:
        content: pieces, scores and rule.

    Raises:
        DataError: if the vocabulary cannot be used.
    """

    def __init__(self, content: unigram_file.Content) -> None:
        unigram_file.check(content, DataError)
        self._content = content
        self._special = (*SPECIAL_TOKENS, *content.special)
        bytes_too = unigram_file.BYTES if content.byte_fallback else ()
        self._vocabulary = [*self._special, *bytes_too, *content.pieces]
        first = len(self._special) + len(bytes_too)
        self._cutter = Cutter(
            {
                piece: (score, first + place)
                for place, (piece, score) in enumerate(content.pieces.items())
            },
            content.unknown_score,
            len(self._special) if bytes_too else None,
        )
        self._spaces = content.spaces
        self._first_piece = first
        written = to_bytes if content.spaces is None else content.spaces.piece_bytes
        self._bytes = [
            *(b"" for _ in self._special),
            *(bytes([byte]) for byte in range(len(bytes_too))),
            *map(written, content.pieces),
        ]
        self._bytes[UNK_ID] = UNK.encode()
        self._kept: dict[bytes, list[int]] = {}
        self._compiled: Encoder | None = None
        self._integers: npt.NDArray[np.object_] | None = None

    Settings = UnigramSettings
    label = "unigram pieces"
    explanation = (
        "The tokenizer is a unigram language model of pieces of words [[kudo2018]]: every piece "
        "has a probability, fitted to the training split by expectation maximisation, and of all "
        "ways to cut a word the most probable one is taken. A frequent word is one piece and a "
        "rare one several; a character that no piece holds becomes the bytes of its UTF-8, or "
        "`<unk>` where the settings say so."
    )
    trained = True
    lossless = True
    whole_words = False
    size_setting = "vocab_size"
    foreign_model = "Unigram"

    @classmethod
    def largest_vocabulary(cls, config: UnigramSettings) -> int:
        """Return the limit that was set."""
        return config.vocab_size

    @classmethod
    def train(cls, texts: Iterable[str], config: UnigramSettings) -> UnigramTokenizer:
        """Learn pieces and their probabilities from training texts, read once as a stream.

        Memory grows with the number of different words and of their substrings, not with the
        corpus.

        Raises:
            ConfigError: if the vocabulary is smaller than the alphabet.
            DataError: if no character is frequent enough.
        """
        counts = cls.counts(config)
        counts.add(texts)
        return cls.learn(counts, config)

    @classmethod
    def counts(cls, config: UnigramSettings) -> WordTable:
        """Return what counts the words of texts."""
        # Here, not above: settings are read without numba.
        from tinylm.tokenizers.loops.counting import WordTable

        return WordTable(RULES[config.split])

    @classmethod
    def learn(cls, counts: WordTable, config: UnigramSettings) -> UnigramTokenizer:
        """Learn pieces from the words of training texts; see ``train``.

        Raises:
            ConfigError: if the vocabulary is smaller than the alphabet.
            DataError: if no character is frequent enough.
        """
        from tinylm.tokenizers.counted_words import Words
        from tinylm.tokenizers.unigram_seeds import known_parts
        from tinylm.tokenizers.unigram_training import Plan, train

        known, words = known_parts(Words.of_table(counts), config.min_frequency)
        if not known:
            raise DataError(
                f"no character of the training texts occurs {config.min_frequency} times: give "
                "more text, or lower tokenizer.min_frequency"
            )
        names = len(SPECIAL_TOKENS) + len(config.special_tokens)
        byte_count = len(unigram_file.BYTES) if config.byte_fallback else 0
        least = names + byte_count + known
        if config.vocab_size < least:
            also = f", {byte_count} bytes" if byte_count else ""
            raise ConfigError(
                f"tokenizer.vocab_size = {config.vocab_size} has no room for the alphabet, "
                f"{known} characters beside {names} special tokens{also}: set it to {least} "
                "or more"
            )
        plan = Plan(
            size=config.vocab_size - names - byte_count,
            seed_size=config.seed_size,
            longest=config.longest_piece,
            min_frequency=config.min_frequency,
            sparse=config.sparse,
        )
        pieces = train(words, plan)
        return cls(
            unigram_file.Content(
                split=config.split,
                byte_fallback=config.byte_fallback,
                pieces=pieces,
                unknown_score=unigram_file.unknown_score(list(pieces.values())),
                min_frequency=config.min_frequency,
                special=config.special_tokens,
            )
        )

    # --- text to ids ---

    def encode(self, text: str) -> list[int]:
        """Return the ids of the most probable segmentation, without framing tokens."""
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

            if self._spaces is None:
                self._compiled = Encoder(RULES[self._content.split], self._cutter)
            else:
                spaces = self._spaces
                self._compiled = Encoder(MARKED, self._cutter, spaces.kinds(), spaces.cleaned)
        return self._compiled(texts)

    def _encode_plain(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in self._split(text):
            known = self._kept.get(word)
            if known is None:
                if len(self._kept) >= _KEPT:
                    self._kept.clear()
                known = self._kept[word] = self._cutter(word)
            ids += known
        return ids

    def _split(self, text: str) -> list[bytes]:
        """Return the words of a text, with ``▁`` for spaces if the rule has it so."""
        if self._spaces is not None:
            return self._spaces.split(text)
        return split(text, RULES[self._content.split])

    # --- all segmentations ---

    def lattice(self, text: str) -> Lattice:
        """Return all segmentations of a text; places are those of the characters of its words.

        An unknown character is an edge with the id of ``<unk>``.
        """
        edges: list[Edge] = []
        place = 0
        for word in self._split(text):
            characters = word.decode()
            edges += self._cutter.edges(characters, place)
            place += len(characters)
        return Lattice(place, edges)

    def ids_of(self, text: str, segmentation: Segmentation) -> list[int]:
        """Return the ids of a segmentation of a text.

        Unknown characters in a row become one ``<unk>`` within a word, as in ``encode``.
        """
        ids: list[int] = []
        edges = deque(segmentation.edges)
        place = 0
        for content in self._split(text):
            word = content.decode()
            path = []
            while edges and edges[0].start < place + len(word):
                edge = edges.popleft()
                path.append((edge.piece, edge.start - place, edge.end - place))
            ids += self._cutter.with_unknown(word, path)
            place += len(word)
        return ids

    def n_best(self, text: str, n: int) -> list[tuple[list[int], float]]:
        """Return the ids and log-probabilities of the ``n`` best segmentations, best first."""
        paths = self.lattice(text).n_best(n)
        return [(self.ids_of(text, path), path.log_probability) for path in paths]

    def sample(self, text: str, random: Uniform, alpha: float = 1.0) -> list[int]:
        """Return the ids of a segmentation drawn with probability to the power ``alpha``.

        Args:
            text: to encode.
            random: where random numbers come from, such as ``random.Random(seed)``.
            alpha: 0 takes all segmentations alike, 1 by their probability; the higher, the nearer
                to the best one.
        """
        return self.ids_of(text, self.lattice(text).sample(random, alpha))

    def log_probability(self, text: str) -> float:
        """Return the log of the probability of a text: the sum over all its segmentations.

        ``lattice(text).best().log_probability`` is that of the one that ``encode`` gives.
        """
        return self.lattice(text).log_probability()

    def unknown_words(self, texts: Iterable[str]) -> Counter[str]:
        """Return how often each word with ``<unk>`` stands in texts; none if they are bytes."""
        counts: Counter[str] = Counter()
        if not self._content.byte_fallback:
            for text in texts:
                for word in self._split(text):
                    if UNK_ID in self._cutter(word):
                        counts[word.decode()] += 1
        return counts

    def with_words(self, words: Sequence[str]) -> UnigramTokenizer:
        """Return a tokenizer to which no character of words is unknown.

        Characters that it lacks become pieces, as probable as the rarest one, with ids after all
        others; where unknown characters are bytes none is lacking.
        """
        content = self._content
        cut = [part.decode() for word in words for part in self._split(word)]
        lacking = [character for part in cut for character in part]
        lacking = [character for character in lacking if character not in content.pieces]
        if content.byte_fallback or not lacking:
            return self
        least = min(content.pieces.values())
        pieces = {**content.pieces, **dict.fromkeys(lacking, least)}
        return UnigramTokenizer(replace(content, pieces=pieces))

    # --- ids to text ---

    def decode(self, ids: Sequence[int]) -> str:
        """Return readable text; special tokens other than ``<unk>`` are left out.

        Raises:
            DataError: if an id is not of this vocabulary.
        """
        tokens = [checked_id(token, self.vocab_size) for token in map(int, ids)]
        parts = [self._bytes[token] for token in tokens]
        if self._spaces is None:
            return to_text(b"".join(parts))
        ordinary = (i for i, token in enumerate(tokens) if self._bytes[token])
        first = next(ordinary, 0)
        if parts and tokens[first] >= self._first_piece:
            parts[first] = self._spaces.first_bytes(self._vocabulary[tokens[first]])
        return self._spaces.text(to_text(b"".join(parts)))

    def decode_batch(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """Return the readable text of each row."""
        return [self.decode(ids) for ids in batch]

    # --- the vocabulary ---

    @property
    def vocab_size(self) -> int:
        """Number of token types, the special ones included."""
        return len(self._vocabulary)

    @property
    def spellings(self) -> list[bytes]:
        """What each token adds to a text, by id; nothing if it is special."""
        special = len(self._special)
        return [*[b""] * special, *self._bytes[special:]]

    @property
    def types_seen(self) -> int:
        """Number of tokens that are not special: none is left out."""
        return self.vocab_size - len(self._special)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The names of the special tokens, by id."""
        return self._special

    @property
    def scores(self) -> dict[str, float]:
        """The log-probability of each piece, in id order."""
        return dict(self._content.pieces)

    def token(self, token_id: int) -> str:
        """Return a special token's name, a byte's such as ``<0x0A>``, or a piece.

        Raises:
            DataError: if there is no such id.
        """
        return self._vocabulary[checked_id(token_id, self.vocab_size)]

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of the SHA-256 of all that decides ids."""
        content = self._content
        parts = [unigram_file.KIND, content.split, content.byte_fallback, content.unknown_score]
        scores = list(content.pieces.values())
        if self._spaces is not None:
            parts.append([self._spaces.prepend, self._spaces.cut, self._spaces.at_white_space])
        return fingerprint_of([*parts, self._vocabulary, scores])

    # --- files ---

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as one JSON file, by a temporary name and a rename.

        Raises:
            DataError: if the file cannot be written.
        """
        unigram_file.write(path, self._content)

    @classmethod
    def load(cls, path: str | Path) -> UnigramTokenizer:
        """Read a tokenizer written by ``save``, and check all of it.

        Raises:
            DataError: if the file is missing, malformed, changed or of another kind.
        """
        return cls(unigram_file.read(path))

    def to_hugging_face(self) -> dict[str, Any]:
        """Return the tokenizer as a file of Hugging Face ``tokenizers`` holds it."""
        return unigram_hugging_face.written(self._content)

    @classmethod
    def from_hugging_face(cls, content: dict[str, Any], refuse: Refuse) -> UnigramTokenizer:
        """Return the tokenizer of a file of Hugging Face ``tokenizers``.

        Raises:
            TinylmError: ``refuse``'s, naming what this tokenizer has no equal of.
        """
        return cls(unigram_hugging_face.read(content, refuse))
