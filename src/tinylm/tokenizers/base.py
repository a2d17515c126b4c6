"""What every tokenizer offers, its settings, and the special tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, ValidationError
from pydantic.dataclasses import dataclass

from tinylm.errors import DataError, shown
from tinylm.reading.shapes import Refuse, problem
from tinylm.registry import TOKENIZERS
from tinylm.value_types import FROZEN, one_of

PAD, UNK, SOS, EOS = "<pad>", "<unk>", "<sos>", "<eos>"
SPECIAL_TOKENS = (PAD, UNK, SOS, EOS)
PAD_ID, UNK_ID, SOS_ID, EOS_ID = range(4)


def special_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of further special tokens, checked.

    Raises:
        ValueError: if one stands there twice, or is that of a standard one.
    """
    every = [*SPECIAL_TOKENS, *names]
    twice = next((name for name in names if every.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{shown(twice)} stands there twice, or is a special token anyway")
    return tuple(names)


@dataclass(frozen=True, config=FROZEN)
class TokenizerSettings:
    """What the settings of every tokenizer have; each has a class of its own."""

    kind: Annotated[str, one_of(TOKENIZERS)] = "word"
    """The tokenizer."""
    special_tokens: Annotated[
        tuple[Annotated[str, Field(pattern=r"^<[!-;=?-~]+>$", max_length=64)], ...],
        AfterValidator(special_names),
    ] = ()
    """Special tokens beside the standard ones, such as <user> and <assistant>, with the ids after
    theirs; no text becomes one, and decoding leaves them out."""


def read_special_tokens(value: object, refuse: Refuse) -> tuple[str, ...]:
    """Return the further special tokens that a file names, held to the rules of the setting.

    Args:
        value: what stands in the file.
        refuse: makes the error.
    """
    try:
        return TokenizerSettings(special_tokens=value).special_tokens  # type: ignore[arg-type]
    except ValidationError as error:
        raise refuse(problem(error)) from None


def checked_id(token_id: int, vocab_size: int) -> int:
    """Return an id that a vocabulary has.

    Raises:
        DataError: for one that it has not.
    """
    if not 0 <= token_id < vocab_size:
        raise DataError(f"no token has id {token_id}: ids run from 0 to {vocab_size - 1}")
    return token_id


class Counts(Protocol):
    """What a tokenizer is trained on of texts: how often each word stands in them.

    Texts may be counted in parts, by several processes, and put together: what is learned is the
    same.
    """

    def add(self, texts: Iterable[str]) -> None:
        """Count texts, read once as a stream."""
        ...

    def packed(self) -> Any:
        """Return the counts as JSON values."""
        ...

    def add_packed(self, packed: Any) -> None:
        """Add the counts of other texts, which come behind those that were counted."""
        ...


class Tokenizer(Protocol):
    """Text to ids and back. Ids 0 to 3 are ``<pad>``, ``<unk>``, ``<sos>``, ``<eos>``."""

    Settings: ClassVar[type[TokenizerSettings]]
    """The frozen dataclass of its settings."""
    label: ClassVar[str]
    """Its name for a reader."""
    explanation: ClassVar[str]
    """What the report says of it: whole sentences, as inline markup."""
    trained: ClassVar[bool]
    """Whether its vocabulary follows from the training texts."""
    lossless: ClassVar[bool]
    """Whether every text comes back exactly, by the settings that it has if nothing is set."""
    whole_words: ClassVar[bool]
    """Whether a token is a word, and words that are too rare have none."""

    size_setting: ClassVar[str]
    """The setting that bounds the vocabulary; empty: it has one size."""
    foreign_model: ClassVar[str]
    """The model of a file of Hugging Face ``tokenizers`` that it reads; empty: it reads none."""

    @classmethod
    def train(cls, texts: Iterable[str], config: Any) -> Tokenizer:
        """Build a tokenizer from training texts, read once as a stream, by its settings."""
        ...

    @classmethod
    def counts(cls, config: Any) -> Counts:
        """Return what counts texts to train a tokenizer by its settings: counts of none yet.

        Raises:
            ConfigError: for settings that contradict each other.
        """
        ...

    @classmethod
    def learn(cls, counts: Any, config: Any) -> Tokenizer:
        """Build a tokenizer from texts that were counted, as ``train`` does."""
        ...

    @classmethod
    def largest_vocabulary(cls, config: Any) -> int:
        """Return the most token types that it can have by its settings."""
        ...

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a tokenizer written by ``save``.

        Raises:
            DataError: if the file is missing, malformed or of another kind.
        """
        ...

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as one JSON file, by a temporary name and a rename."""
        ...

    def to_hugging_face(self) -> dict[str, Any]:
        """Return the tokenizer as a file of Hugging Face ``tokenizers`` holds it.

        Raises:
            DataError: if that library has nothing that gives the same ids.
        """
        ...

    @classmethod
    def from_hugging_face(cls, content: dict[str, Any], refuse: Refuse) -> Tokenizer:
        """Return the tokenizer that a file of Hugging Face ``tokenizers`` holds.

        Args:
            content: of the file.
            refuse: makes the error.

        Raises:
            TinylmError: ``refuse``'s, naming what this tokenizer has no equal of.
        """
        ...

    @property
    def vocab_size(self) -> int:
        """Number of token types, the special ones included."""
        ...

    @property
    def spellings(self) -> Sequence[bytes] | None:
        """What each token adds to a text, by id, as bytes of its UTF-8; nothing if it is special.

        None: what a token writes hangs on those beside it.
        """
        ...

    @property
    def types_seen(self) -> int:
        """Types of the training texts, those left out of the vocabulary included."""
        ...

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The names of the special tokens, by id."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``, without framing tokens."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without framing tokens."""
        ...

    def encode_flat(
        self, texts: Sequence[str]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return all ids in one array, (tokens,), and the bounds of each text, (texts + 1,)."""
        ...

    def unknown_words(self, texts: Iterable[str]) -> Counter[str]:
        """Return how often each word that is read as ``<unk>`` stands in texts."""
        ...

    def with_words(self, words: Sequence[str]) -> Self:
        """Return the same tokenizer with more words, whose ids follow all others.

        Those that it has, or needs not to have, are left out.

        Raises:
            ConfigError: for what is not one token of the rule.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return readable text; special tokens other than ``<unk>`` are left out.

        The text of a prefix of ``ids`` is a prefix of the text of ``ids``, so that streaming can
        print what is new.
        """
        ...

    def decode_batch(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """Return the readable text of each row."""
        ...

    def token(self, token_id: int) -> str:
        """Return the token type behind an id, as written in the vocabulary."""
        ...

    def fingerprint(self) -> str:
        """Return a short hash of everything that decides ids; stored in files made with it."""
        ...
