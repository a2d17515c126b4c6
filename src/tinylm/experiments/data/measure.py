"""The data experiment: what the corpus is, how it is tokenized, what its vectors know."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinylm.config import DataConfig
from tinylm.data.corpora import Corpus, PairCorpus, reads_files
from tinylm.data.token_files import TokenFile
from tinylm.data.vectors import VectorTable
from tinylm.evaluation.round_trip import round_trip
from tinylm.experiments.context import Context
from tinylm.experiments.preparation import prepare_data, vectors_of
from tinylm.printable import in_line
from tinylm.tokenizers.base import SPECIAL_TOKENS, Tokenizer

_NEIGHBOUR_CANDIDATES = ("dog", "mom", "happy", "ran", "red", "house", "ball", "sad")
_SHOWN_STORY_CHARACTERS = 320
_ROUND_TRIPS = 5_000
"""Validation stories that are decoded again, at most; it takes about a millisecond each."""


def run(context: Context) -> dict[str, Any]:
    """Prepare the data and describe it."""
    config = context.config
    data = prepare_data(config, context.console)
    table = vectors_of(config, data, context.console)
    splits = {"train": data.train, "validation": data.validation}
    lengths = {name: _lengths(tokens) for name, tokens in splits.items()}
    counts = data.train.counts(data.tokenizer.vocab_size)
    counts[: len(SPECIAL_TOKENS)] = 0
    order = np.argsort(-counts, kind="stable")
    ranks = np.unique(np.geomspace(1, max(1, int((counts > 0).sum())), 60).round().astype(int))
    histogram, edges = np.histogram(
        lengths["train"], bins=30, range=(0, float(np.percentile(lengths["train"], 99.5)) + 1)
    )
    return {
        "corpus": data.corpus.describe(),
        "corpus_name": corpus_name(config.data),
        "vocab_size": data.tokenizer.vocab_size,
        "tokenizer": config.tokenizer.kind,
        "unit": data.train.header.noun,
        "special_tokens": len(data.tokenizer.special_tokens),
        "min_frequency": getattr(config.tokenizer, "min_frequency", None),
        "max_size": getattr(config.tokenizer, data.tokenizer.size_setting, None),
        "types_seen": data.tokenizer.types_seen,
        "splits": {
            name: {
                "stories": tokens.header.num_stories,
                "tokens": tokens.header.num_tokens,
                "text_bytes": tokens.header.num_text_bytes,
                "unknown": tokens.header.num_unknown,
                "unknown_rate": tokens.header.unknown_rate,
            }
            for name, tokens in splits.items()
        },
        "lengths": {
            name: {
                "mean": float(values.mean()),
                "median": float(np.median(values)),
                "p95": float(np.percentile(values, 95)),
                "max": int(values.max()),
            }
            for name, values in lengths.items()
        },
        "windows": _in_windows(data.train, config.model.context_length),
        "rows": _in_rows(data.train),
        "length_histogram": {"edges": edges.tolist(), "counts": histogram.tolist()},
        "top_words": [[in_line(data.tokenizer.token(int(i))), int(counts[i])] for i in order[:20]],
        "rank_frequency": [[int(rank), int(counts[order[rank - 1]])] for rank in ranks],
        "vectors": None if table is None else _describe_vectors(context, data.tokenizer, table),
        "round_trip": round_trip(islice(data.corpus.validation(), _ROUND_TRIPS), data.tokenizer),
        "example": _example(_first(data.corpus), data.tokenizer),
    }


def _lengths(tokens: TokenFile) -> npt.NDArray[np.int64]:
    """Return the number of words and marks of every story, framing tokens left out."""
    return tokens.lengths() - 2


def _in_windows(tokens: TokenFile, context_length: int) -> dict[str, Any]:
    """Return which shares of the stories fit into a window, and stand in one whole.

    A story stands in a window whole if all its tokens but the first are predicted from those
    before it; windows are cut from the joined stories, wherever these begin.
    """
    lengths = tokens.lengths()
    starts = np.asarray(tokens.starts)
    ends = starts + lengths
    whole = starts // context_length == (ends - 2) // context_length
    return {
        "context_length": context_length,
        "fit_share": float((lengths - 1 <= context_length).mean()),
        "whole_share": float(whole.mean()),
    }


def _in_rows(tokens: TokenFile) -> dict[str, float] | None:
    """Return the mean tokens of sources and of targets, framing left out, if it holds pairs."""
    if tokens.pairs is None:
        return None
    given = tokens.pairs[:, 0]
    rest = tokens.lengths() - given
    return {"source_mean": float(given.mean()) - 1, "target_mean": float(rest.mean()) - 1}


def corpus_name(config: DataConfig) -> str:
    """Return what a corpus is called: that of the user's files as their folder or file is."""
    own = Path(config.path or "").stem if reads_files(config.corpus) else ""
    return in_line(own) or config.corpus


def _first(corpus: Corpus) -> list[str]:
    """Return the texts of the first item of the training split."""
    if isinstance(corpus, PairCorpus):
        pair = next(corpus.train_pairs())
        return [_cut(pair.source), _cut(pair.target)]
    return [_cut(next(corpus.train()))]


def _cut(story: str) -> str:
    """Return the beginning of a text, to the end of a sentence if it has one."""
    text = story[:_SHOWN_STORY_CHARACTERS]
    if len(story) > len(text):
        end = max(text.rfind(mark) for mark in ('." ', ". ", "! ", "? ", ".\n"))
        text = text[: end + 1] if end > 0 else text.rsplit(" ", 1)[0]
    return text


def _example(texts: list[str], tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the beginning of a story, or of a pair's texts, as text, tokens, ids and decoded."""
    ids = [each for text in texts for each in tokenizer.encode(text)]
    return {
        "text": " ".join(texts),
        "tokens": [in_line(tokenizer.token(i)) for i in ids],
        "ids": ids,
        "decoded": tokenizer.decode(ids),
    }


def _describe_vectors(context: Context, tokenizer: Tokenizer, table: VectorTable) -> dict[str, Any]:
    words = [tokenizer.token(i) for i in range(len(SPECIAL_TOKENS), tokenizer.vocab_size)]
    row = {word: i for i, word in enumerate(words)}
    norms = np.linalg.norm(table.matrix, axis=1, keepdims=True)
    unit = table.matrix / np.where(norms > 0, norms, 1)
    neighbours = {}
    for word in [word for word in _NEIGHBOUR_CANDIDATES if word in row][:5]:
        cosine = unit @ unit[row[word]]
        cosine[row[word]] = -1
        nearest = np.argsort(-cosine)[:5]
        neighbours[word] = [[words[i], float(cosine[i])] for i in nearest]
    return {
        "source": context.config.vectors.resolved_source,
        "dimension": int(table.matrix.shape[1]),
        "coverage": table.coverage,
        "description": table.describe(),
        "trainable": context.config.vectors.trainable,
        "neighbours": neighbours,
    }
