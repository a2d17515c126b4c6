"""What every tokenizer offers, and the four special tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tinylm.config import TokenizerConfig

PAD, UNK, SOS, EOS = "<pad>", "<unk>", "<sos>", "<eos>"
SPECIAL_TOKENS = (PAD, UNK, SOS, EOS)
PAD_ID, UNK_ID, SOS_ID, EOS_ID = range(4)


class Tokenizer(Protocol):
    """Text to ids and back. Ids 0 to 3 are ``<pad>``, ``<unk>``, ``<sos>``, ``<eos>``."""

    @classmethod
    def train(cls, texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
        """Build a tokenizer from training texts, read once as a stream."""
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

    @property
    def vocab_size(self) -> int:
        """Number of token types, the special ones included."""
        ...

    @property
    def types_seen(self) -> int:
        """Types of the training texts, those left out of the vocabulary included."""
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

    def decode(self, ids: Sequence[int]) -> str:
        """Return readable text; ``<pad>``, ``<sos>`` and ``<eos>`` are left out.

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
