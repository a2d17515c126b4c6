"""fastText vectors for a vocabulary: read from official files, or trained on the corpus.

Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information". The path from text to the
model's embedding is :func:`read_vectors` or :func:`train_vectors`, then :func:`save_table` for the
next run, then :func:`embedding_matrix`.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinylm.atomic import write_bytes
from tinylm.data.fasttext_bin import read_bin
from tinylm.data.fasttext_files import Progress, open_vectors, read_vec
from tinylm.errors import DataError
from tinylm.reading import read_tensor_headers, refusal

BUCKETS = 100_000
"""Rows for n-grams when fastText is trained here. fastText's own 2,000,000 are meant for the words
of the whole web and take 2.4 GB at 300 dimensions, these 120 MB. Ten thousand frequent English
words have about 60,000 different n-grams of 3 to 6 characters, of which a little less than half
share a row with another one; the word's own row makes up for these collisions."""

_FORMAT = "tinylm-vectors-1"
_LONGEST_SENTENCE = 10_000  # gensim silently drops the words after it


@dataclass(frozen=True, eq=False)
class VectorTable:
    """One vector a word, in the order of the words, and where each comes from."""

    matrix: NDArray[np.float32]
    """(words, dimension); zero where the word has no vector."""
    has_vector: NDArray[np.bool_]
    """(words,): the word has a vector that is not zero."""
    subword: NDArray[np.bool_]
    """(words,): the word's vector comes from its n-grams alone."""

    @property
    def coverage(self) -> float:
        """Share of the words that have a vector, 0 to 1 (1 for no words)."""
        return float(self.has_vector.mean()) if self.has_vector.size else 1.0

    def describe(self) -> str:
        """Return one line on the coverage."""
        num_found, num_subword = int(self.has_vector.sum()), int(self.subword.sum())
        by_subword = f", {num_subword:,} of them by subwords only" if num_subword else ""
        return (
            f"fastText vectors of dimension {self.matrix.shape[1]} for {num_found:,} of "
            f"{self.has_vector.size:,} words ({100 * self.coverage:.1f} %){by_subword}"
        )


def _table(
    matrix: NDArray[np.float32], has_vector: NDArray[np.bool_], subword: NDArray[np.bool_]
) -> VectorTable:
    """Make a table in which a zero vector, which has no direction, counts as none."""
    has_vector = has_vector & matrix.any(axis=1)
    return VectorTable(matrix, has_vector, subword & has_vector)


def read_vectors(
    path: str | Path, words: Sequence[str], dimension: int, progress: Progress | None = None
) -> VectorTable:
    """Read the vectors of ``words`` from an official fastText file.

    The format follows from the name: ``.vec`` (or ``.txt``), or ``.bin``, which gives words outside
    its list a vector from their character n-grams; each also with ``.gz`` or in a ``.zip``. A word
    that is not listed takes the most frequent row that equals it when lower-cased. The file is
    streamed: memory is the vocabulary's rows and a few MB.

    Args:
        path: the file.
        words: the vocabulary without special tokens, each once, lower case.
        dimension: values a vector must have; model.hidden_size.
        progress: called now and then with the fraction done, 0 to 1.

    Returns:
        A table of ``len(words)`` rows.

    Raises:
        DataError: one line with file and line number (``.vec``), or byte offset or row (``.bin``),
            for a file that is missing, malformed, truncated, damaged or of another dimension.
    """
    with open_vectors(path) as source:
        read = read_bin if source.kind == "bin" else read_vec
        return _table(*read(source, words, dimension, progress))


def train_vectors(
    sentences: Callable[[], Iterable[Sequence[str]]],
    words: Sequence[str],
    dimension: int,
    epochs: int,
    window: int,
    seed: int,
    progress: Progress | None = None,
) -> VectorTable:
    """Train fastText (skip-gram, 5 negative samples, n-grams of 3 to 6) on tokenized text.

    One worker thread, because the order in which several update the same rows is left to chance: so
    a seed gives the same bits in every run on a machine, at the price of the other cores. At 300
    dimensions and a window of 5, one core trains about 90,000 words a second.

    Args:
        sentences: called for each pass; gives the text as lists of words. Words that are not in
            ``words`` are skipped.
        words: the vocabulary without special tokens, each once. A word that the text lacks gets the
            mean of its n-grams' rows and is marked as ``subword``.
        dimension: values a vector has; model.hidden_size.
        epochs: passes over the text, after one that counts words.
        window: context words on each side.
        seed: of the initial vectors and of sampling.
        progress: called now and then, from another thread, with the fraction done, 0 to 1.

    Returns:
        A table of ``len(words)`` rows, each with a vector that is not zero.

    Raises:
        DataError: if the text holds none of the words, or training diverged.
        ValueError: if ``sentences`` does not give the same text each time.
    """
    from gensim.models import FastText  # takes a second or more, and only this function needs it

    wanted = frozenset(words)
    counts: Counter[str] = Counter()
    num_sentences = 0
    for sentence in _known_words(sentences(), wanted):
        counts.update(sentence)
        num_sentences += 1
    num_tokens = counts.total()
    if not num_tokens:
        raise DataError("no word of the vocabulary occurs in the text that fastText is trained on")

    model = FastText(
        vector_size=dimension,
        window=window,
        min_count=1,
        sg=1,
        bucket=BUCKETS,
        workers=1,
        seed=seed % 2**32,
    )
    # In the order of `words`, not of a set, so that rows do not depend on Python's string hashes.
    model.build_vocab_from_freq(
        {word: counts[word] for word in words if counts[word]}, corpus_count=num_sentences
    )
    passes = _Passes(sentences, wanted, epochs * num_tokens, progress)
    model.train(passes, total_examples=num_sentences, epochs=epochs)
    if passes.error is not None:
        raise passes.error
    if passes.num_tokens != epochs * num_tokens:
        raise ValueError("sentences() must start anew, with the same text, each time it is called")

    matrix = np.zeros((len(words), dimension), np.float32)
    for index, word in enumerate(words):
        matrix[index] = model.wv.get_vector(word)
    if not np.isfinite(matrix).all():
        raise DataError("fastText training diverged: vectors are not finite; use fewer epochs")
    if progress is not None:
        progress(1.0)
    subword = np.array([not counts[word] for word in words], np.bool_)
    return _table(matrix, np.ones(len(words), np.bool_), subword)


def _known_words(sentences: Iterable[Sequence[str]], wanted: frozenset[str]) -> Iterator[list[str]]:
    """Yield what is left of each sentence, in pieces that gensim takes whole."""
    for sentence in sentences:
        known = [word for word in sentence if word in wanted]
        for start in range(0, len(known), _LONGEST_SENTENCE):
            yield known[start : start + _LONGEST_SENTENCE]


class _Passes:
    """The text in the form that gensim reads: iterated once an epoch, in its producer thread."""

    def __init__(
        self,
        sentences: Callable[[], Iterable[Sequence[str]]],
        wanted: frozenset[str],
        total: int,
        progress: Progress | None,
    ) -> None:
        self._sentences = sentences
        self._wanted = wanted
        self._total = total
        self._progress = progress
        self.num_tokens = 0
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[list[str]]:
        try:
            next_report = self.num_tokens
            for sentence in _known_words(self._sentences(), self._wanted):
                yield sentence
                self.num_tokens += len(sentence)
                if self._progress is not None and self.num_tokens >= next_report:
                    self._progress(min(1.0, self.num_tokens / self._total))
                    next_report = self.num_tokens + self._total // 200
        except Exception as error:  # noqa: BLE001
            # Raised in that thread, it would make gensim wait without end; train_vectors raises it.
            self.error = error


def save_table(table: VectorTable, words: Sequence[str], path: str | Path, key: str) -> None:
    """Write a table as safetensors, atomically.

    Args:
        table: what to keep.
        words: the words of its rows.
        path: the file; its folder is made.
        key: a text of everything that decides the content; :func:`load_table` compares it.

    Raises:
        OSError: if the file cannot be written.
    """
    from safetensors.numpy import save

    parts = {"matrix": table.matrix, "found": table.has_vector, "subword": table.subword}
    # safetensors would write a strided array in the order of its memory.
    tensors: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(values) for name, values in parts.items()
    }
    write_bytes(path, save(tensors, metadata=_metadata(tensors, words, key)))


def load_table(path: str | Path, words: Sequence[str], key: str) -> VectorTable:
    """Read a table written by :func:`save_table`.

    Raises:
        DataError: if the file is missing, not as it was written (a checksum covers every value), or
            made for other words or another key.
    """
    from safetensors import safe_open

    refuse = refusal(path, DataError, "make the vectors again")
    headers = read_tensor_headers(path, DataError, "make the vectors again")
    count = len(words)
    shapes = {name: (header.dtype, header.shape[:1]) for name, header in headers.items()}
    parts = {
        "matrix": ("F32", (count,)),
        "found": ("BOOL", (count,)),
        "subword": ("BOOL", (count,)),
    }
    if shapes != parts or len(headers["matrix"].shape) != 2:
        raise refuse("holds no vectors of these words")
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in parts}
    if metadata.get("format") != _FORMAT or metadata.get("key") != key:
        raise refuse("was made from something else")
    if metadata != _metadata(tensors, words, key) or not np.isfinite(tensors["matrix"]).all():
        raise refuse("has changed since it was written")
    return VectorTable(tensors["matrix"], tensors["found"], tensors["subword"])


def _metadata(tensors: dict[str, NDArray[Any]], words: Sequence[str], key: str) -> dict[str, str]:
    content = hashlib.sha256()
    for name in sorted(tensors):
        content.update(f"{name} {tensors[name].dtype} {tensors[name].shape}\n".encode())
        content.update(tensors[name].tobytes())
    named = hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass"))
    return {
        "format": _FORMAT,
        "key": key,
        "words": named.hexdigest(),
        "content": content.hexdigest(),
    }


def embedding_matrix(
    table: VectorTable, vocab_size: int, special_count: int, hidden_size: int, seed: int
) -> NDArray[np.float32]:
    """Return the matrix that the model's embedding starts from.

    The model multiplies embeddings by sqrt(hidden_size) before it adds positions (Vaswani et al.
    2017, 3.4). fastText's own vectors have norms of about 1 to 5 and would then be 17 to 87 long at
    300 dimensions, against sqrt(150) = 12.25 for a sinusoidal position. Scaled to unit length they
    are sqrt(300) = 17.3 long, so that neither dominates the sum. Words without a vector (a zero row
    has no direction to keep) and special tokens are drawn from N(0, 1 / hidden_size), whose mean
    squared norm is 1 too.

    Args:
        table: rows of the words behind the special tokens.
        vocab_size: rows of the result.
        special_count: special tokens at the front; ``<pad>``, id 0, is the zero row.
        hidden_size: columns of the result.
        seed: of the random rows; a row's numbers do not depend on which other words have a vector.

    Returns:
        (vocab_size, hidden_size), float32.

    Raises:
        DataError: if the table has not ``vocab_size - special_count`` rows of ``hidden_size``.
    """
    expected = (vocab_size - special_count, hidden_size)
    if table.matrix.shape != expected:
        raise DataError(
            f"vectors of shape {table.matrix.shape} do not fit {expected[0]} words "
            f"(vocab_size - special tokens) of model.hidden_size {hidden_size}; make them again"
        )
    generator = np.random.default_rng(seed)
    result = generator.standard_normal((vocab_size, hidden_size), dtype=np.float32)
    result /= np.float32(math.sqrt(hidden_size))
    norms = np.linalg.norm(table.matrix.astype(np.float64), axis=1)  # (words,)
    usable = table.has_vector & (norms > 0)
    result[special_count:][usable] = table.matrix[usable] / norms[usable, None]
    if special_count:
        result[0] = 0.0
    return result
