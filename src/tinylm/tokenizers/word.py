"""Words, numbers and punctuation marks: the word-level tokenizer.

The rule (``RULE_VERSION``), the same in training and encoding:

1. *Normalise.* Typographic quotes become ``"`` and ``'``, hyphens and the en dash ``-``, the em
   dash ``--``, the ellipsis ``...``; so do their double-encoded forms (UTF-8 read as cp1252 or
   latin-1, such as ``â€œ``), which the text files of TinyStories contain.
2. *Lower-case*, by ``str.lower``.
3. *Split.* A word is a run of letters (Unicode category L) and of the combining marks (M) after
   them; an apostrophe between letters belongs to the word (``don't``). A number is a run of
   decimal digits (Nd). Every other character that is not white space is a token of its own.

The vocabulary is ``<pad>``, ``<unk>``, ``<sos>``, ``<eos>``, then types by falling frequency, ties
in code-point order, so that it does not depend on the order of the texts. A special token's name
inside a text is split like any other text (``<``, ``eos``, ``>``) and never becomes its id.

Two paths give the same ids. The *reference path* is ``re.findall`` and a dict. The *compiled path*
finds token boundaries of ASCII text with a handful of NumPy operations over bytes and looks all
tokens up in one Arrow hash table; text that is not ASCII after step 1 takes the reference path.
``benchmarks/tokenizing.py`` measures both; on one core of a shared AMD EPYC and real TinyStories
the compiled path does 62 MB/s into Python lists (``encode_batch``) and 89 MB/s into one array
(``encode_flat``), the reference path 14 MB/s, Hugging Face ``tokenizers`` 6 MB/s.

The price of a rule this plain: case and spacing are not in the ids, and unseen words are lost as
``<unk>``. ``decode`` restores spacing and capitals by rules that look only to the left, so that the
text of a prefix of the ids is a prefix of the text; which words are names is counted in training.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinylm import atomic
from tinylm.config import TokenizerConfig
from tinylm.errors import DataError, shown
from tinylm.reading import CHECKSUM, key_shown, read_json, refusal, signed, verified
from tinylm.tokenizers.base import SPECIAL_TOKENS, UNK_ID
from tinylm.tokenizers.word_counts import WordCounts
from tinylm.tokenizers.word_rule import (
    Lookup,
    ascii_tokens,
    normalise,
    split_words,
    text_ends,
)
from tinylm.tokenizers.word_writer import TextWriter

FORMAT = "tinylm-tokenizer"
FORMAT_VERSION = 1
_KEYS = {
    *("format", "version", "kind", "rule_version", "min_frequency", "max_size", "types_seen"),
    *("fingerprint", "vocabulary", "capitalised"),
}
KIND = "word"
RULE_VERSION = 1

_COMPILED_MIN_CHARS = 1 << 13
"""Below this the fixed cost of the compiled path (the hash table) exceeds its gain."""
_TRAINING_CHARS = 1 << 22
"""Training reads texts in batches of about this many characters."""


class WordTokenizer:
    """Words, numbers and punctuation marks to ids and back, by the rule in this module's docstring.

    Args:
        words: the vocabulary without the special tokens, in id order from 4 on.
        capitalised: the names: types that ``decode`` writes with a capital, alone or before ``'s``,
            unless they follow a determiner ("his mom").
        min_frequency: the threshold that ``words`` was built with, kept for the record.
        max_size: the largest vocabulary that was allowed, kept for the record.
        types_seen: types of the training texts before any were cut, kept for the record; empty:
            as many as there are words.

    Raises:
        DataError: if ``words`` repeats a type or contains the name of a special token.
    """

    def __init__(
        self,
        words: Iterable[str],
        capitalised: Iterable[str] = (),
        *,
        min_frequency: int = 1,
        max_size: int | None = None,
        types_seen: int | None = None,
    ) -> None:
        self._vocabulary = [*SPECIAL_TOKENS, *words]
        self._ids = {word: index for index, word in enumerate(self._vocabulary)}
        if len(self._ids) != len(self._vocabulary):
            twice = next(word for word, count in Counter(self._vocabulary).items() if count > 1)
            raise DataError(f"the vocabulary holds {shown(twice)} twice: give each type once")
        self._capitalised = frozenset(capitalised)
        self._min_frequency = min_frequency
        self._max_size = max_size
        self._types_seen = types_seen
        self._lookup: Lookup | None = None
        self._integers: npt.NDArray[np.object_] | None = None

    @classmethod
    def train(cls, texts: Iterable[str], config: TokenizerConfig) -> WordTokenizer:
        """Build the vocabulary from training texts, read once as a stream.

        Memory grows with the number of distinct types, not with the corpus.

        Raises:
            DataError: if no type is frequent enough for the vocabulary.
        """
        counts = WordCounts()
        batch: list[str] = []
        size = 0
        for text in texts:
            batch.append(text)
            size += len(text)
            if size >= _TRAINING_CHARS:
                counts.add(batch)
                batch, size = [], 0
        counts.add(batch)
        kept = sorted(
            (word for word, count in counts.all.items() if count >= config.min_frequency),
            key=lambda word: (-counts.all[word], word),
        )[: config.max_size - len(SPECIAL_TOKENS)]
        if not kept:
            raise DataError(
                f"no word of the training texts occurs {config.min_frequency} times: "
                "give more text, or lower tokenizer.min_frequency"
            )
        return cls(
            kept,
            counts.names().intersection(kept),
            min_frequency=config.min_frequency,
            max_size=config.max_size,
            types_seen=len(counts.all),
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
        return [get(word, UNK_ID) for word in split_words(text)]

    def _encode_ascii(
        self, texts: Sequence[str]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], dict[int, list[int]]]:
        """Encode on the compiled path; rows that are not ASCII are empty there and in the dict."""
        plain = list(texts)
        others: dict[int, list[int]] = {}
        for row, text in enumerate(plain):
            if not text.isascii():
                plain[row] = normalise(text)
                if not plain[row].isascii():
                    others[row] = self._encode_reference(text)
                    plain[row] = ""
        if self._lookup is None:
            self._lookup = Lookup(self._vocabulary)
        ids = [np.empty(0, dtype=np.int32)]
        starts = [np.empty(0, dtype=np.int64)]
        for tokens in ascii_tokens("\n".join(plain).encode("ascii")):
            ids.append(self._lookup(tokens.words))
            starts.append(tokens.starts)
        bounds = np.searchsorted(np.concatenate(starts), text_ends(plain))
        return np.concatenate(ids), np.concatenate(([0], bounds)), others

    def pieces(self, text: str) -> list[str]:
        """Return the string tokens of ``text`` before they are looked up."""
        return split_words(text)

    def unknown_words(self, text: str) -> list[str]:
        """Return the distinct tokens of ``text`` that become ``<unk>``, in order of appearance."""
        return [word for word in dict.fromkeys(split_words(text)) if word not in self._ids]

    # --- ids to text ---

    def decode(self, ids: Sequence[int]) -> str:
        """Return readable text; ``<pad>``, ``<sos>`` and ``<eos>`` are left out.

        The text of a prefix of ``ids`` is a prefix of the text of ``ids``.

        Raises:
            DataError: if an id is not of this vocabulary.
        """
        writer = TextWriter(self._capitalised)
        return "".join(writer.write(int(index), self.token(int(index))) for index in ids)

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
    def types_seen(self) -> int:
        """Types of the training texts, those that became ``<unk>`` included."""
        return len(self.words) if self._types_seen is None else self._types_seen

    @property
    def words(self) -> list[str]:
        """The vocabulary without the special tokens, in id order from 4 on."""
        return self._vocabulary[len(SPECIAL_TOKENS) :]

    @property
    def capitalised(self) -> frozenset[str]:
        """The names: types that ``decode`` writes with a capital inside sentences too."""
        return self._capitalised

    def token(self, token_id: int) -> str:
        """Return the token type behind an id, as written in the vocabulary.

        Raises:
            DataError: if there is no such id.
        """
        if not 0 <= token_id < len(self._vocabulary):
            raise DataError(f"no token has id {token_id}: ids run from 0 to {self.vocab_size - 1}")
        return self._vocabulary[token_id]

    def id_of(self, word: str) -> int:
        """Return the id of a type written as in the vocabulary (lower case), else ``UNK_ID``."""
        return self._ids.get(word, UNK_ID)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of the SHA-256 of all that decides ids: rule, vocabulary."""
        content = json.dumps([KIND, RULE_VERSION, self._vocabulary])
        return hashlib.sha256(content.encode("ascii")).hexdigest()[:16]

    # --- the file ---

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as one JSON file, by a temporary name and a rename.

        Raises:
            DataError: if the file cannot be written.
        """
        content = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "kind": KIND,
            "rule_version": RULE_VERSION,
            "min_frequency": self._min_frequency,
            "max_size": self._max_size,
            "types_seen": self.types_seen,
            "fingerprint": self.fingerprint(),
            "vocabulary": self._vocabulary,
            "capitalised": sorted(self._capitalised),
        }
        try:
            atomic.write_text(path, json.dumps(signed(content), indent=0) + "\n")
        except OSError as error:
            raise DataError(
                f"{path}: cannot write the tokenizer ({error.strerror or error}): "
                "give a folder that can be written"
            ) from error

    @classmethod
    def load(cls, path: str | Path) -> WordTokenizer:
        """Read a tokenizer written by ``save``, and check all of it.

        Raises:
            DataError: if the file is missing, malformed, changed or of another kind.
        """

        advice = "train the tokenizer again, or give another file"
        refuse = refusal(path, DataError, advice)
        content = read_json(path, dict[str, Any], DataError, advice)
        if content.get("format") != FORMAT:
            raise refuse(f'not a tokenizer file (no "format": "{FORMAT}")')
        if CHECKSUM in content:  # files made before have none, and are checked all the same
            content = verified(content, refuse)
        for key, expected in (
            ("version", FORMAT_VERSION),
            ("kind", KIND),
            ("rule_version", RULE_VERSION),
        ):
            if content.get(key) != expected:
                raise refuse(f"{key} is {shown(content.get(key))}, but {expected!r} is needed")
        for key in ("vocabulary", "capitalised"):
            words = content.get(key)
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise refuse(f"{key} is not a list of strings")
            twice = next((word for word, count in Counter(words).items() if count > 1), None)
            if twice is not None:
                raise refuse(f"{key} holds {shown(twice)} twice")
        vocabulary, capitalised = content["vocabulary"], content["capitalised"]
        if tuple(vocabulary[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
            raise refuse(f"the vocabulary does not start with {', '.join(SPECIAL_TOKENS)}")
        words = vocabulary[len(SPECIAL_TOKENS) :]
        strangers = set(capitalised).difference(words)
        if strangers:
            raise refuse(
                f"capitalised holds {shown(min(strangers))}, which the vocabulary does not"
            )
        strange = content.keys() - _KEYS
        if strange:
            raise refuse(f"unknown key {key_shown(min(strange))}")
        min_frequency, max_size = content.get("min_frequency"), content.get("max_size")
        if type(min_frequency) is not int or not (max_size is None or type(max_size) is int):
            raise refuse("min_frequency or max_size is not a whole number")
        types_seen = content.get("types_seen")
        if types_seen is not None and (type(types_seen) is not int or types_seen < len(words)):
            raise refuse("types_seen is not a whole number of at least the vocabulary's words")
        tokenizer = cls(
            words,
            capitalised,
            min_frequency=min_frequency,
            max_size=max_size,
            types_seen=types_seen,
        )
        if content.get("fingerprint") != tokenizer.fingerprint():
            raise refuse(
                f"fingerprint {content.get('fingerprint')} does not fit the vocabulary "
                f"({tokenizer.fingerprint()}), so the file was changed or damaged"
            )
        return tokenizer
