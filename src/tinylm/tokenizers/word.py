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

import functools
import hashlib
import itertools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tinylm import atomic
from tinylm.config import TokenizerConfig
from tinylm.errors import DataError
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID, SPECIAL_TOKENS, UNK_ID

FORMAT = "tinylm-tokenizer"
FORMAT_VERSION = 1
KIND = "word"
RULE_VERSION = 1

NAME_MIN_COUNT = 3
"""A type needs this many capitals inside sentences before it counts as a name."""
NAME_MIN_SHARE = 0.5
"""A type is written with a capital if more than this share of its uses inside sentences is."""

_COMPILED_MIN_CHARS = 1 << 13
"""Below this the fixed cost of the compiled path (the hash table) exceeds its gain."""
_WINDOW_BYTES = 1 << 18
"""The compiled path works on pieces of this size, so that its temporaries stay in the cache."""
_TRAINING_CHARS = 1 << 22
"""Training reads texts in batches of about this many characters."""

# --- normalisation -------------------------------------------------------------------------------

_TYPOGRAPHIC = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′´", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–−", "-"),
        **dict.fromkeys("—―", "--"),
        "…": "...",
    }
)
# The closing quote's last byte, 0x9D, has no character in cp1252 and is often dropped: a bare
# "â€" is a closing quote too. Longer forms come first.
_DOUBLE_ENCODED = re.compile("â(?:€[œ\x9d™˜“”¦]?|\x80[\x93\x94\x98\x99\x9c\x9d\xa6])")
_LAST_BYTE_MEANS = {
    **dict.fromkeys("œ\x9d€\x9c", '"'),
    **dict.fromkeys("™˜\x98\x99", "'"),
    **dict.fromkeys("“\x93", "-"),
    **dict.fromkeys("”\x94", "--"),
    **dict.fromkeys("¦\xa6", "..."),
}


def normalise(text: str) -> str:
    """Return ``text`` with typographic quotes, dashes and ellipses in ASCII (step 1)."""
    if text.isascii():
        return text
    if "â" in text:
        text = _DOUBLE_ENCODED.sub(lambda match: _LAST_BYTE_MEANS[match[0][-1]], text)
    return text.translate(_TYPOGRAPHIC)


# --- the reference path --------------------------------------------------------------------------

_ASCII_TOKEN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|[0-9]+|[^\s\x1c-\x1fA-Za-z0-9]", re.ASCII)


_BEYOND_BMP = re.compile("[\U00010000-\U0010ffff]")


@functools.cache
def _unicode_token(*, beyond_bmp: bool) -> re.Pattern[str]:
    """Return the splitting pattern for any text; made on first use, in about 0.1 s.

    The standard ``re`` has no ``\\p{L}``, so the classes are written out from ``unicodedata``. It
    has a table for the first 65,536 code points but tries the ranges beyond one by one, hence the
    pattern without them, four times as fast, for texts that do not go so far.
    """
    ranges: dict[str, list[list[int]]] = {"L": [], "M": [], "Nd": []}
    # No letter, mark or digit lies in between: planes 4 to 13 are empty.
    codes = (*range(0x40000), *range(0xE0000, 0xE1000)) if beyond_bmp else range(0x10000)
    for code in codes:
        category = unicodedata.category(chr(code))
        spans = ranges.get(category if category == "Nd" else category[0])
        if spans is None:
            continue
        if spans and spans[-1][1] == code - 1:
            spans[-1][1] = code
        else:
            spans.append([code, code])
    letters, marks, digits = (
        "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges[kind])
        for kind in ("L", "M", "Nd")
    )
    word = f"[{letters}][{letters}{marks}]*"
    return re.compile(f"{word}(?:'{word})*|[{digits}]+|\\S")


def _split(text: str) -> list[str]:
    """Apply step 3 to text that steps 1 and 2 have seen."""
    if text.isascii():
        return _ASCII_TOKEN.findall(text)
    return _unicode_token(beyond_bmp=_BEYOND_BMP.search(text) is not None).findall(text)


def split_words(text: str) -> list[str]:
    """Return the string tokens of ``text`` by the module's rule, before any vocabulary."""
    return _split(normalise(text).lower())


# --- the compiled path ---------------------------------------------------------------------------

_SPACE, _LETTER, _DIGIT, _OTHER, _APOSTROPHE = range(5)
_SPACE_BYTES = bytes(code for code in range(128) if chr(code).isspace())


def _class_table() -> bytes:
    classes = bytearray([_OTHER]) * 256
    for code in range(128):
        character = chr(code)
        if character.isspace():
            classes[code] = _SPACE
        elif character.isalpha():
            classes[code] = _LETTER
        elif character.isdigit():
            classes[code] = _DIGIT
    classes[ord("'")] = _APOSTROPHE
    return bytes(classes)


_CLASSES = _class_table()
_LOWER = bytes(range(256)).lower()

# A capital after one of these tells nothing about names: a sentence or a speech may start there.
_MAYBE_SENTENCE_START = frozenset(".!?\"'(-:")
_MAYBE_START_TABLE = np.array([chr(code) in _MAYBE_SENTENCE_START for code in range(256)])


@dataclass(frozen=True)
class _Tokens:
    """The tokens of a stretch of ASCII bytes."""

    starts: npt.NDArray[np.int64]  # (tokens,) position of each token's first byte in the blob
    words: Any  # (tokens,) pyarrow LargeStringArray, lower-cased


def _windows(blob: bytes) -> Iterator[tuple[int, int]]:
    """Yield ``(start, end)`` of pieces of about ``_WINDOW_BYTES`` that end at white space."""
    start = 0
    while start < len(blob):
        end = min(start + _WINDOW_BYTES, len(blob))
        if end < len(blob):
            cut = max(blob.rfind(b" ", start, end), blob.rfind(b"\n", start, end))
            if cut <= start:  # one token longer than a window
                later = [blob.find(space, end) for space in (b" ", b"\n")]
                cut = min((place for place in later if place >= 0), default=len(blob))
            end = cut
        yield start, end
        start = end


def _tokens(blob: bytes) -> Iterator[_Tokens]:
    """Split ASCII bytes by the rule, window by window."""
    for begin, end in _windows(blob):
        piece = bytearray(blob[begin:end])
        classes = np.frombuffer(piece.translate(_CLASSES), dtype=np.uint8)  # (bytes,) writable
        marks = np.flatnonzero(classes == _APOSTROPHE)
        marks = marks[(marks > 0) & (marks < len(classes) - 1)]
        between = (classes[marks - 1] == _LETTER) & (classes[marks + 1] == _LETTER)
        classes[marks[between]] = _LETTER
        start = classes >= _OTHER
        start[0] = True
        start[1:] |= classes[1:] != classes[:-1]
        filled = classes != _SPACE
        start &= filled
        # Without its spaces the text is exactly the tokens' bytes, one after another, which is
        # Arrow's layout of a string array: offsets and data, and nothing is copied again.
        data = piece.translate(_LOWER, _SPACE_BYTES)
        starts = np.flatnonzero(start)  # (tokens,)
        offsets = np.empty(len(starts) + 1, dtype=np.int64)
        offsets[:-1] = np.cumsum(filled, dtype=np.int32)[starts]
        offsets[:-1] -= 1  # the running count includes the byte itself
        offsets[-1] = len(data)
        words = pa.LargeStringArray.from_buffers(
            len(starts), pa.py_buffer(offsets), pa.py_buffer(data)
        )
        yield _Tokens(starts + begin, words)


class _Lookup:
    """Ids of many ASCII tokens at once."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        ascii_ids = [
            index
            for index, word in enumerate(vocabulary)
            if index >= len(SPECIAL_TOKENS) and word.isascii()
        ]
        self._values = pc.SetLookupOptions(
            value_set=pa.array([vocabulary[index] for index in ascii_ids], pa.large_string())
        )
        # An unknown token has no place in the value set; -1 leads to the last entry.
        self._ids = np.array([*ascii_ids, UNK_ID], dtype=np.int32)

    def __call__(self, words: Any) -> npt.NDArray[np.int32]:
        places: npt.NDArray[np.int32]  # (tokens,)
        places = pc.index_in(words, options=self._values).fill_null(-1).to_numpy()
        ids: npt.NDArray[np.int32] = self._ids[places]
        return ids


def _ends(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return where each text ends in ``"\\n".join(texts)``, shape ``(texts,)``, in characters."""
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return np.cumsum(lengths + 1) - 1


# --- training counts -----------------------------------------------------------------------------


@dataclass
class _Counts:
    """What training needs to know of a corpus, by type."""

    all: Counter[str] = field(default_factory=Counter)
    inside: Counter[str] = field(default_factory=Counter)
    """Uses where no sentence or speech can have started."""
    capitals: Counter[str] = field(default_factory=Counter)
    """Those among ``inside`` that are written with a capital."""

    def add_reference(self, text: str) -> None:
        """Count one text on the reference path."""
        text = normalise(text)
        words = _split(text.lower())
        self.all.update(words)
        written = _split(text)
        if len(written) != len(words):  # a lower-case form with other classes: no evidence of case
            return
        for before, shown, word in zip(written, written[1:], words[1:], strict=False):
            if before not in _MAYBE_SENTENCE_START and shown[0].isalpha():
                self.inside[word] += 1
                if shown[0].isupper():
                    self.capitals[word] += 1

    def add(self, texts: Sequence[str]) -> None:
        """Count many texts, on the compiled path where it applies."""
        plain = []
        for text in map(normalise, texts):
            if text.isascii():
                plain.append(text)
            else:
                self.add_reference(text)
        blob = "\n".join(plain).encode("ascii")
        ends = _ends(plain)
        counted = -1  # where the last token counted so far starts
        codes = np.frombuffer(blob, dtype=np.uint8)
        previous = ord(".")  # the first byte of the token before; a text's first starts a sentence
        for tokens in _tokens(blob):
            if not len(tokens.starts):
                continue
            first = codes[tokens.starts]  # (tokens,)
            before = np.empty_like(first)
            before[0], before[1:] = previous, first[:-1]
            previous = int(first[-1])
            # Ends up to ``counted`` were followed by a token of an earlier window.
            after_end = np.searchsorted(tokens.starts, ends[np.searchsorted(ends, counted) :])
            counted = int(tokens.starts[-1])
            before[after_end[after_end < len(before)]] = ord(".")
            lower = first | 0x20
            is_word = (lower >= ord("a")) & (lower <= ord("z"))
            inside = is_word & ~_MAYBE_START_TABLE[before]
            capital = inside & (first <= ord("Z"))
            encoded = tokens.words.dictionary_encode()
            types = encoded.dictionary.to_pylist()
            places = encoded.indices.to_numpy()
            for counter, chosen in (
                (self.all, places),
                (self.inside, places[inside]),
                (self.capitals, places[capital]),
            ):
                counts = np.bincount(chosen, minlength=len(types)).tolist()
                for word, count in zip(types, counts, strict=True):
                    if count:
                        counter[word] += count

    def names(self) -> set[str]:
        """Return the types that are mostly capitalised where no sentence starts."""
        return {
            word
            for word, capitals in self.capitals.items()
            if capitals >= NAME_MIN_COUNT and capitals > NAME_MIN_SHARE * self.inside[word]
        }


# --- the tokenizer -------------------------------------------------------------------------------


class WordTokenizer:
    """Words, numbers and punctuation marks to ids and back, by the rule in this module's docstring.

    Args:
        words: the vocabulary without the special tokens, in id order from 4 on.
        capitalised: the names: types that ``decode`` writes with a capital, alone or before ``'s``,
            unless they follow a determiner ("his mom").
        min_frequency: the threshold that ``words`` was built with, kept for the record.
        max_size: the largest vocabulary that was allowed, kept for the record.

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
    ) -> None:
        self._vocabulary = [*SPECIAL_TOKENS, *words]
        self._ids = {word: index for index, word in enumerate(self._vocabulary)}
        if len(self._ids) != len(self._vocabulary):
            twice = next(word for word, count in Counter(self._vocabulary).items() if count > 1)
            raise DataError(f"the vocabulary holds {twice!r} twice: give each type once")
        self._capitalised = frozenset(capitalised)
        self._min_frequency = min_frequency
        self._max_size = max_size
        self._lookup: _Lookup | None = None
        self._integers: npt.NDArray[np.object_] | None = None

    @classmethod
    def train(cls, texts: Iterable[str], config: TokenizerConfig) -> WordTokenizer:
        """Build the vocabulary from training texts, read once as a stream.

        Memory grows with the number of distinct types, not with the corpus.

        Raises:
            DataError: if no type is frequent enough for the vocabulary.
        """
        counts = _Counts()
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
            self._lookup = _Lookup(self._vocabulary)
        ids = [np.empty(0, dtype=np.int32)]
        starts = [np.empty(0, dtype=np.int64)]
        for tokens in _tokens("\n".join(plain).encode("ascii")):
            ids.append(self._lookup(tokens.words))
            starts.append(tokens.starts)
        bounds = np.searchsorted(np.concatenate(starts), _ends(plain))
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
        writer = _Writer(self._capitalised)
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
            "fingerprint": self.fingerprint(),
            "vocabulary": self._vocabulary,
            "capitalised": sorted(self._capitalised),
        }
        try:
            atomic.write_text(path, json.dumps(content, indent=0) + "\n")
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

        def refuse(problem: str) -> DataError:
            return DataError(f"{path}: {problem}: train the tokenizer again, or give another file")

        try:
            content = json.loads(Path(path).read_text("utf-8"))
        except OSError as error:
            raise refuse(f"cannot read the tokenizer ({error.strerror or error})") from error
        except (ValueError, RecursionError) as error:  # not UTF-8, or not JSON
            raise refuse(f"not a tokenizer file ({error})") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise refuse(f'not a tokenizer file (no "format": "{FORMAT}")')
        for key, expected in (
            ("version", FORMAT_VERSION),
            ("kind", KIND),
            ("rule_version", RULE_VERSION),
        ):
            if content.get(key) != expected:
                raise refuse(f"{key} is {content.get(key)!r}, but {expected!r} is needed")
        for key in ("vocabulary", "capitalised"):
            words = content.get(key)
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise refuse(f"{key} is not a list of strings")
            twice = next((word for word, count in Counter(words).items() if count > 1), None)
            if twice is not None:
                raise refuse(f"{key} holds {twice!r} twice")
        vocabulary, capitalised = content["vocabulary"], content["capitalised"]
        if tuple(vocabulary[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
            raise refuse(f"the vocabulary does not start with {', '.join(SPECIAL_TOKENS)}")
        words = vocabulary[len(SPECIAL_TOKENS) :]
        strangers = set(capitalised).difference(words)
        if strangers:
            raise refuse(f"capitalised holds {min(strangers)!r}, which the vocabulary does not")
        min_frequency, max_size = content.get("min_frequency"), content.get("max_size")
        if type(min_frequency) is not int or not (max_size is None or type(max_size) is int):
            raise refuse("min_frequency or max_size is not a whole number")
        tokenizer = cls(words, capitalised, min_frequency=min_frequency, max_size=max_size)
        if content.get("fingerprint") != tokenizer.fingerprint():
            raise refuse(
                f"fingerprint {content.get('fingerprint')} does not fit the vocabulary "
                f"({tokenizer.fingerprint()}), so the file was changed or damaged"
            )
        return tokenizer


# --- spacing and capitals ------------------------------------------------------------------------

# fmt: off
_SPEECH_VERBS = frozenset({
    "said", "says", "say", "saying", "asked", "asks", "replied", "answered", "thought", "shouted",
    "yelled", "cried", "whispered", "exclaimed", "called", "added", "explained", "begged", "agreed",
    "screamed", "laughed", "giggled", "wept", "pleaded", "sang", "wailed", "wondered", "continued",
    "insisted", "declared", "announced", "suggested", "promised", "growled", "barked", "roared",
})
# After one of these a word that can be a name is a common noun: "his mom", but "Mom said".
_DETERMINERS = frozenset({"a", "an", "the", "my", "your", "his", "her", "our", "their"})
# fmt: on
# After `!"` and `?"` these go on with the sentence (`"Hi!" she said`) more often than they start
# one; after `."` everything starts one, after `,"` nothing does. Counted in TinyStories.
_GOES_ON_AFTER_SPEECH = _SPEECH_VERBS | {"she", "he", "and"}
_ENDS_SENTENCE = frozenset(".!?")
_NO_SPACE_BEFORE = frozenset(".,!?;:)]}%")
_NO_SPACE_AFTER = frozenset("([{$#")
_JOINS_BOTH = frozenset("/_@")


class _Writer:
    """Turns tokens into text one by one; what is written depends on the tokens before only."""

    def __init__(self, capitalised: frozenset[str]) -> None:
        self._capitalised = capitalised
        self._restart(empty=True)

    def _restart(self, *, empty: bool) -> None:
        self._before = ""  # the token before, and the one before that
        self._before2 = ""
        self._empty = empty
        self._glue = empty  # the next token takes no space before it
        self._sentence_start = True
        self._speech_end = ""  # the mark inside a quote that was just closed
        self._quote_open = False
        self._single_open = False

    def write(self, index: int, token: str) -> str:
        """Return what ``token`` adds to the text, its space included."""
        if index == PAD_ID:
            return ""
        if index in (SOS_ID, EOS_ID):
            self._restart(empty=self._empty)
            return ""
        if index == UNK_ID:
            text = self._word(token, token)
        elif token == '"':
            text = self._double_quote()
        elif token == "'":
            text = self._single_quote()
        elif token[0].isalpha():
            text = self._word(token, self._case(token))
        elif token[0].isdecimal():
            text = self._word(token, token)
        else:
            text = self._mark(token)
        self._before2, self._before = self._before, token
        self._empty = False
        return text

    def _space(self) -> str:
        space = "" if self._glue else " "
        self._glue = False
        return space

    def _case(self, word: str) -> str:
        starts = self._sentence_start
        if self._speech_end in ("!", "?") and word in _GOES_ON_AFTER_SPEECH:
            starts = False
        if starts or self._is_name(word) or word == "i" or word.startswith("i'"):
            capital = word[0].upper() + word[1:]
            if capital.lower() == word:  # not so for a few letters, such as a first ß
                return capital
        return word

    def _is_name(self, word: str) -> bool:
        if word not in self._capitalised and word.removesuffix("'s") not in self._capitalised:
            return False
        return not (self._before in _DETERMINERS or self._before.endswith("'s"))

    def _word(self, token: str, shown: str) -> str:
        if token[0].isdecimal() and self._before2[:1].isdecimal() and self._joins_number(token):
            self._glue = True
        self._sentence_start = False
        self._speech_end = ""
        return self._space() + shown

    def _joins_number(self, number: str) -> bool:
        """Tell whether a number goes on after a mark: 3.5, 1,000, 10:30."""
        length = {",": 3, ":": 2}.get(self._before)
        return self._before == "." or length == len(number)

    def _double_quote(self) -> str:
        before = self._before
        if before == '"' and self._quote_open:
            # Two in a row: the first was the closing one of a speech whose opening is missing.
            self._glue = False
            self._sentence_start = True
            text = self._space() + '"'
            self._glue = True
            return text
        unclosed = before in (",", ":") and self._before2 in _SPEECH_VERBS
        if self._quote_open and not unclosed:
            self._quote_open = False
            self._glue = False
            self._speech_end = before
            self._sentence_start = before in _ENDS_SENTENCE
            return '"'
        self._quote_open = True
        # A quoted word inside a sentence (the word "love") keeps its lower case.
        self._sentence_start = (
            self._sentence_start or not before[-1:].isalnum() or before in _SPEECH_VERBS
        )
        self._speech_end = ""
        text = self._space() + '"'
        self._glue = True
        return text

    def _single_quote(self) -> str:
        before = self._before
        after_word = before[-1:].isalnum()
        closes = self._single_open and not self._glue
        if closes or (after_word and not self._glue and before[-1] == "s"):
            if self._single_open:
                self._speech_end = "" if after_word else before
            self._single_open = False
            self._glue = False
            return "'"
        self._single_open = True
        self._sentence_start = self._sentence_start or before == ","
        text = self._space() + "'"
        self._glue = True
        return text

    def _mark(self, mark: str) -> str:
        before = self._before
        attaches = before != "" and not (self._glue and before in ('"', "'"))
        if mark in _NO_SPACE_BEFORE and attaches:
            text = mark
        elif (mark == "-" and (before == "-" or before[-1:].isalnum())) or mark in _JOINS_BOTH:
            text = mark if attaches else self._space() + mark
        else:
            text = self._space() + mark
        self._glue = mark in _NO_SPACE_AFTER or mark in _JOINS_BOTH or mark == "-"
        if mark in _ENDS_SENTENCE:
            self._sentence_start = True
        elif mark not in _NO_SPACE_AFTER and mark != "-":
            self._sentence_start = self._sentence_start and mark in ")]}"
        self._speech_end = ""
        return text
