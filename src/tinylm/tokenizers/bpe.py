"""Byte-level BPE: frequent pairs of tokens become tokens, beginning with bytes.

Byte-pair encoding (Gage 1994) for vocabularies (Sennrich et al. 2016), over the bytes of UTF-8
(Radford et al. 2019): every text has ids and comes back as it was, ``<unk>`` is never used.

*Training.* Texts are cut into words by a rule (``splitting``), within which alone is merged. The
most frequent pair of neighbouring tokens becomes a token, again and again, until the vocabulary is
as large as was asked, or no pair is frequent enough. Ties go to the smaller pair of ids. Ids are
those of Hugging Face ``tokenizers``: special tokens, the 256 bytes in the order of the characters
that stand for them (``byte_letters``), then tokens in the order in which they were made.

*Encoding.* In each word the pair whose merge was learned first is merged first, wherever it
stands, then the next. ``<eos>`` written in a text is text; no merge makes a special token's name.

*Decoding* joins the bytes; those of a character that is not complete are not written yet, so that
the text of a prefix of the ids is a prefix of the text.

Two paths give the same ids. Short texts are encoded in plain Python (``bpe_merging``), longer ones
by the compiled loops (``loops``), which go through the bytes once: they find each word's end, look
the word up in a table, and merge it if it is not there. The price of merges is that a word is cut
by frequency alone: ``Ġwalk`` and ``ing`` are tokens if their letters often stand together, not
because of what they mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.errors import ConfigError
from tinylm.fingerprints import fingerprint_of
from tinylm.reading.shapes import Refuse
from tinylm.tokenizers import bpe_file, bpe_hugging_face, byte_letters
from tinylm.tokenizers.base import SPECIAL_TOKENS, UNK, UNK_ID, TokenizerSettings, checked_id
from tinylm.tokenizers.bpe_merging import PlainEncoder
from tinylm.tokenizers.splitting import RULES, split
from tinylm.tokenizers.utf8 import to_text
from tinylm.value_types import FROZEN, Int, PositiveInt

if TYPE_CHECKING:
    from tinylm.tokenizers.loops.bpe_encoding import Encoder
    from tinylm.tokenizers.loops.counting import WordTable

_COMPILED_MIN_CHARS = 1 << 12
"""Below this plain Python takes less time than loading the compiled loops."""


@dataclass(frozen=True, config=FROZEN)
class BPESettings(TokenizerSettings):
    """Byte-level byte-pair encoding."""

    kind: str = bpe_file.KIND
    vocab_size: Annotated[Int, Field(ge=1, le=1 << 20)] = 4096
    """Largest vocabulary, the special tokens and the 256 bytes included."""
    min_frequency: PositiveInt = 2
    """A pair seen less often than this in the training split is not merged."""
    split: Literal["gpt2", "cl100k"] = "gpt2"
    """Rule by which text is cut into words before any merge: that of GPT-2 or of GPT-4 (cl100k)."""


class BPETokenizer:
    """Texts to ids of byte-level BPE and back.

    Args:
        content: vocabulary, merges and rule, which fit each other (``bpe_file.check``).
    """

    def __init__(self, content: bpe_file.Content) -> None:
        self._content = content
        self._special = (*SPECIAL_TOKENS, *content.special)
        self._first = len(self._special)
        tokens = content.tokens
        self._ids = {token: self._first + place for place, token in enumerate(tokens)}
        self._bytes = [*(b"" for _ in self._special), *tokens]
        self._bytes[UNK_ID] = UNK.encode()
        self._byte_ids = [self._ids[bytes([byte])] for byte in range(256)]
        self._merges = {
            (self._ids[left], self._ids[right]): (rank, self._ids[left + right])
            for rank, (left, right) in enumerate(content.merges)
        }
        self._plain = PlainEncoder(self._byte_ids, self._merges)
        self._compiled: Encoder | None = None
        self._integers: npt.NDArray[np.object_] | None = None

    Settings = BPESettings
    label = "byte-level BPE"
    explanation = (
        "The tokenizer is byte-level byte-pair encoding [[sennrich2016]][[radford2019]]: it begins "
        "with the 256 bytes, and pairs of neighbouring tokens that are frequent in the training "
        "split become tokens of their own. A frequent word is one token and a rare one several; no "
        "text is unknown, and every text comes back as it was."
    )
    trained = True
    lossless = True
    whole_words = False
    size_setting = "vocab_size"
    foreign_model = "BPE"

    @classmethod
    def largest_vocabulary(cls, config: BPESettings) -> int:
        """Return the limit that was set."""
        return config.vocab_size

    @classmethod
    def train(cls, texts: Iterable[str], config: BPESettings) -> BPETokenizer:
        """Learn merges from training texts, read once as a stream.

        Memory grows with the number of different words, not with the corpus.

        Raises:
            ConfigError: if the vocabulary is smaller than the alphabet.
        """
        counts = cls.counts(config)
        counts.add(texts)
        return cls.learn(counts, config)

    @classmethod
    def counts(cls, config: BPESettings) -> WordTable:
        """Return what counts the words of texts.

        Raises:
            ConfigError: if the vocabulary is smaller than the alphabet.
        """
        first = len(SPECIAL_TOKENS) + len(config.special_tokens)
        alphabet = byte_letters.ALPHABET
        if config.vocab_size < first + len(alphabet):
            raise ConfigError(
                f"tokenizer.vocab_size = {config.vocab_size} has no room for the alphabet, "
                f"{len(alphabet)} bytes beside {first} special tokens: set it to "
                f"{first + len(alphabet)} or more"
            )
        # Here, not above: settings are read without numba.
        from tinylm.tokenizers.loops.counting import WordTable

        return WordTable(RULES[config.split])

    @classmethod
    def learn(cls, counts: WordTable, config: BPESettings) -> BPETokenizer:
        """Learn merges from the words of training texts."""
        from tinylm.tokenizers.loops.bpe_learning import learn

        first = len(SPECIAL_TOKENS) + len(config.special_tokens)
        alphabet = [bytes([byte]) for byte in byte_letters.ALPHABET]
        names = [name.encode() for name in (*SPECIAL_TOKENS, *config.special_tokens)]
        tokens = [*names, *alphabet]
        content, bounds, uses = counts.words()
        ids = np.zeros(256, np.int32)
        for token in range(first, len(tokens)):
            ids[tokens[token][0]] = token
        learned = learn(
            *(ids[content], bounds, uses, tokens, first, config.vocab_size, config.min_frequency)
        )
        ranks: dict[tuple[int, int], None] = {}
        for left, right, token in learned:
            if token == len(tokens):
                tokens.append(tokens[left] + tokens[right])
            ranks.pop((left, right), None)  # of a pair that comes twice the last place counts
            ranks[left, right] = None
        return cls(
            bpe_file.Content(
                split=config.split,
                tokens=tokens[first:],
                merges=[(tokens[left], tokens[right]) for left, right in ranks],
                min_frequency=config.min_frequency,
                special=config.special_tokens,
            )
        )

    @property
    def vocab_size(self) -> int:
        """Number of token types, the special ones included."""
        return len(self._bytes)

    @property
    def spellings(self) -> list[bytes]:
        """What each token adds to a text, by id; nothing if it is special."""
        return [*[b""] * self._first, *self._bytes[self._first :]]

    @property
    def types_seen(self) -> int:
        """Number of tokens that are not special: none is left out."""
        return len(self._content.tokens)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The names of the special tokens, by id."""
        return self._special

    @property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """The pairs that are merged, by rank."""
        return list(self._content.merges)

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
            from tinylm.tokenizers.loops.bpe_encoding import Encoder

            self._compiled = Encoder(RULES[self._content.split], self._byte_ids, self._merges)
        return self._compiled(texts)

    def _encode_plain(self, text: str) -> list[int]:
        words = split(text, RULES[self._content.split])
        return [token for word in words for token in self._plain(word)]

    def unknown_words(self, texts: Iterable[str]) -> Counter[str]:
        """Return nothing: every text is known."""
        return Counter()

    def with_words(self, words: Sequence[str]) -> BPETokenizer:
        """Return the tokenizer itself: it needs no words."""
        return self

    # --- ids to text ---

    def decode(self, ids: Sequence[int]) -> str:
        """Return readable text; special tokens other than ``<unk>`` are left out.

        Raises:
            DataError: if an id is not of this vocabulary.
        """
        return to_text(
            b"".join([self._bytes[checked_id(token, self.vocab_size)] for token in map(int, ids)])
        )

    def decode_batch(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """Return the readable text of each row."""
        return [self.decode(ids) for ids in batch]

    # --- the vocabulary ---

    def token(self, token_id: int) -> str:
        """Return a special token's name, or a token's bytes as characters (``byte_letters``).

        Raises:
            DataError: if there is no such id.
        """
        if checked_id(token_id, self.vocab_size) < self._first:
            return self._special[token_id]
        return byte_letters.written(self._bytes[token_id])

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of the SHA-256 of all that decides ids."""
        merges = [[self._ids[left], self._ids[right]] for left, right in self._content.merges]
        tokens = [byte_letters.written(token) for token in self._content.tokens]
        return fingerprint_of([bpe_file.KIND, self._content.split, self._special, tokens, merges])

    # --- files ---

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as one JSON file, by a temporary name and a rename.

        Raises:
            DataError: if the file cannot be written.
        """
        bpe_file.write(path, self._content)

    @classmethod
    def load(cls, path: str | Path) -> BPETokenizer:
        """Read a tokenizer written by ``save``, and check all of it.

        Raises:
            DataError: if the file is missing, malformed, changed or of another kind.
        """
        return cls(bpe_file.read(path))

    def to_hugging_face(self) -> dict[str, Any]:
        """Return the tokenizer as a file of Hugging Face ``tokenizers`` holds it."""
        return bpe_hugging_face.written(self._content)

    @classmethod
    def from_hugging_face(cls, content: dict[str, Any], refuse: Refuse) -> BPETokenizer:
        """Return the tokenizer of a file of Hugging Face ``tokenizers``.

        Raises:
            TinylmError: ``refuse``'s, naming what this tokenizer has no equal of.
        """
        return cls(bpe_hugging_face.read(content, refuse))
