"""From a corpus to what training needs: tokenizer, token files, vectors, a model with its start.

Everything is made from the train split alone; validation is only encoded. What is made is kept
below ``data.cache_folder``, in a folder named by the corpus' fingerprint, in files named by the
tokenizer's settings or fingerprint, and used again by the next run on the same data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from tinylm.config import DataConfig, RunConfig, to_dict
from tinylm.data.corpora import Corpus, DivisibleCorpus, PairCorpus, holds_pairs, open_corpus
from tinylm.data.token_files import TokenFile
from tinylm.data.token_parts import PART_BYTES, count_parts, write_parts
from tinylm.data.token_shards import Split, write_split
from tinylm.data.token_workers import Pool
from tinylm.data.vectors import (
    VectorTable,
    embedding_matrix,
    load_table,
    read_vectors,
    save_table,
    train_vectors,
)
from tinylm.errors import ConfigError, DataError
from tinylm.experiments.context import Console
from tinylm.locks import locked
from tinylm.model.base import GenerativeModel, build
from tinylm.planning.limits import refuse_model
from tinylm.registry import MODELS, TOKENIZERS
from tinylm.tasks.carried import refuse_carrying
from tinylm.tokenizers.base import SPECIAL_TOKENS, Tokenizer, TokenizerSettings
from tinylm.training.precision import resolve_device, resolve_precision

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class PreparedData:
    """A corpus as token files."""

    corpus: Corpus
    tokenizer: Tokenizer
    train: TokenFile
    validation: TokenFile
    folder: Path


def prepare_data(config: RunConfig, console: Console) -> PreparedData:
    """Build or find the tokenizer and the token files of a configuration.

    Raises:
        ConfigError: if the model needs more memory than there is, or settings of the vectors
            contradict each other.
        DataError: if the corpus, or a kept file, cannot be used.
    """
    # Before the text is worked on:
    refuse_model(config.model)  # with the smallest vocabulary
    config.vectors.resolved_source  # noqa: B018
    pairs = holds_pairs(config.data.corpus)
    if config.training.carry_state:
        refuse_carrying(config.model, config.training, pairs)
    if config.training.learn_source:
        _refuse_learning_sources(config, pairs)
    if config.training.view is not None:
        _refuse_view(config, pairs)
    corpus = open_corpus(config.data)
    folder = _cache_folder(config.data, corpus)
    settings = json.dumps(to_dict(config.tokenizer), sort_keys=True)
    path = folder / f"tokenizer-{digest(settings)}.json"
    read = TOKENIZERS.load(config.tokenizer.kind).load
    with Pool(config.data.workers) as pool:
        made = _Preparation(config.data, corpus, folder, pool, console)
        tokenizer: Tokenizer = kept_file(
            path, read, lambda path: made.train(config.tokenizer).save(path), console
        )
        train, validation = (made.encoded(tokenizer, split) for split in ("train", "validation"))
    if isinstance(corpus, DivisibleCorpus):
        corpus.counted(len(train), len(validation))
    return PreparedData(corpus, tokenizer, train, validation, folder)


def _refuse_learning_sources(config: RunConfig, pairs: bool) -> None:
    """Refuse to learn sources where there are none, or where they are read as a whole.

    Raises:
        ConfigError: naming the settings.
    """
    corpus, kind = config.data.corpus, config.model.kind
    if not pairs:
        raise ConfigError(
            f"training.learn_source = true has no effect with data.corpus = {corpus}, whose texts "
            "have no source: leave it out, or give data.corpus=pairs"
        )
    if MODELS.load(kind).needs_source:
        raise ConfigError(
            f"training.learn_source = true has no effect with model.kind = {kind}, which reads a "
            "source as a whole and predicts none of it: leave it out"
        )


def _refuse_view(config: RunConfig, pairs: bool) -> None:
    """Refuse to predict the rest of windows where there are none, or where no more is predicted.

    Raises:
        ConfigError: naming the settings.
    """
    view, kind = config.training.view, config.model.kind
    if pairs:
        raise ConfigError(
            f"training.view = {view} has no effect with data.corpus = {config.data.corpus}, whose "
            "rows have a source that is given: leave it out"
        )
    own = MODELS.load(kind).view
    if own != "whole":
        raise ConfigError(
            f"training.view = {view} is for kinds of models that predict all of a window, and "
            f"model.kind = {kind} reads windows by the view {own!r}: leave it out"
        )


def encoded_split(
    config: DataConfig, tokenizer: Tokenizer, split: str, console: Console
) -> TokenFile:
    """Return a split of a corpus in the ids of a given tokenizer, encoding it if need be.

    Raises:
        DataError: if the corpus, or a kept file, cannot be used.
    """
    corpus = open_corpus(config)
    folder = _cache_folder(config, corpus)
    with Pool(config.workers) as pool:
        return _Preparation(config, corpus, folder, pool, console).encoded(tokenizer, split)


def _cache_folder(config: DataConfig, corpus: Corpus) -> Path:
    return Path(config.cache_folder) / f"{config.corpus}-{digest(corpus.fingerprint())}"


def digest(text: str) -> str:
    """Return 16 hexadecimal digits that name a kept file by what it was made of."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Preparation:
    """What vocabularies and token files are made from, and where."""

    config: DataConfig
    corpus: Corpus
    folder: Path
    pool: Pool
    console: Console

    def train(self, settings: TokenizerSettings) -> Tokenizer:
        """Train a tokenizer on the train split."""
        kind, parts = TOKENIZERS.load(settings.kind), self._parts("train")
        several = kind.trained and self.pool.workers > 1 and parts is not None and len(parts) > 1
        with self.console.task("Building the vocabulary") as done:
            tokenizer: Tokenizer
            if not several or parts is None:
                tokenizer = kind.train(_counted(self.corpus.train(), done), settings)
                return tokenizer
            counts = kind.counts(settings)
            in_order = partial(self._stories, "train")
            count_parts(
                counts, settings, self.config, in_order, parts, self.pool, lambda number: None
            )
            tokenizer = kind.learn(counts, settings)
            return tokenizer

    def encoded(self, tokenizer: Tokenizer, split: str) -> TokenFile:
        """Return a split in a tokenizer's ids, encoding it if need be."""
        fingerprint = self.corpus.fingerprint()

        def encode(path: Path) -> None:
            each = 1 + isinstance(self.corpus, PairCorpus)
            made = Split(path, each, tokenizer, fingerprint, split)
            parts = self._parts(split)
            with self.console.task(f"Encoding the {split} split") as done:
                if parts is not None and isinstance(self.corpus, DivisibleCorpus):
                    of_corpus = (self.corpus, self.config, partial(self._stories, split))
                    write_parts(made, *of_corpus, parts, self.pool, done)
                else:
                    write_split(made, self._stories(split), self.pool, done)

        path = self.folder / f"{split}-{tokenizer.fingerprint()}.tokens"
        return kept_file(
            path, lambda path: TokenFile(path, tokenizer, fingerprint), encode, self.console
        )

    def _parts(self, split: str) -> list[tuple[int, int]] | None:
        """Return the parts in which a split may be read, or None: in order alone."""
        if not isinstance(self.corpus, DivisibleCorpus):
            return None
        return self.corpus.parts(split, PART_BYTES)

    def _stories(self, split: str) -> Iterator[tuple[str, ...]]:
        """Return the texts of a split, or its sources each with its target."""
        corpus = self.corpus
        if isinstance(corpus, PairCorpus):
            pairs = corpus.train_pairs() if split == "train" else corpus.validation_pairs()
            return ((pair.source, pair.target) for pair in pairs)
        stories = corpus.train() if split == "train" else corpus.validation()
        return ((story,) for story in stories)


def kept_file(
    path: Path, read: Callable[[Path], Kept], make: Callable[[Path], None], console: Console
) -> Kept:
    """Return what a file holds; one that is missing, damaged or of an older form is made anew.

    Another process may be making it: then its file is waited for and read.
    """
    if path.exists():
        try:
            return read(path)
        except DataError as error:
            console.warn(f"{error}; it is made again now")
    with locked(path.parent, console.note, wait=True):
        with suppress(DataError):  # another process may have made it
            return read(path)
        make(path)
        return read(path)


def _counted(stories: Iterator[str], done: Callable[[float], None]) -> Iterator[str]:
    for count, story in enumerate(stories, 1):
        yield story
        if count % 1000 == 0:
            done(count)


def vectors_of(config: RunConfig, data: PreparedData, console: Console) -> VectorTable | None:
    """Return the fastText vectors that a configuration asks for, or None for random ones.

    Raises:
        ConfigError: if the file is asked for and not named, or named and not asked for.
        DataError: if the file cannot be used.
    """
    settings = config.vectors
    source = settings.resolved_source
    words = [data.tokenizer.token(i) for i in range(len(SPECIAL_TOKENS), data.tokenizer.vocab_size)]
    if source == "none":
        return None
    if source == "file":
        assert settings.path is not None
        with console.task("Reading fastText vectors", 1.0) as done:
            return read_vectors(settings.path, words, config.model.hidden_size, progress=done)
    key = json.dumps(
        {
            "tokenizer": data.tokenizer.fingerprint(),
            "corpus": data.train.header.corpus,
            "dimension": config.model.hidden_size,
            "epochs": settings.epochs,
            "window": settings.window,
            "seed": vectors_seed(config),
        },
        sort_keys=True,
    )

    def train(path: Path) -> None:
        spelled = [data.tokenizer.token(i) for i in range(data.tokenizer.vocab_size)]

        def sentences() -> Iterator[list[str]]:
            for story in data.train.stories():
                yield [spelled[i] for i in story[1:-1].tolist()]

        with console.task("Training fastText vectors", 1.0) as done:
            table = train_vectors(
                sentences,
                words,
                config.model.hidden_size,
                settings.epochs,
                settings.window,
                vectors_seed(config),
                progress=done,
            )
        save_table(table, words, path, key)

    path = data.folder / f"vectors-{digest(key)}.safetensors"
    return kept_file(path, lambda path: load_table(path, words, key), train, console)


def vectors_seed(config: RunConfig) -> int:
    """Return the seed that fastText is trained with."""
    seed = config.vectors.seed
    return config.training.seed if seed is None else seed


def resolve(config: RunConfig, data: PreparedData) -> RunConfig:
    """Fill in what the configuration left to the data and the machine.

    Raises:
        ConfigError: if settings contradict each other or the data.
    """
    size = data.tokenizer.vocab_size
    if config.model.vocab_size not in (None, size):
        raise ConfigError(
            f"model.vocab_size = {config.model.vocab_size}, but the tokenizer has {size} types: "
            "leave it empty"
        )
    model = replace(
        config.model,
        vocab_size=size,
        head_dim=config.model.resolved_head_dim,
        ffn_size=config.model.resolved_ffn_size,
    )
    device = resolve_device(config.training.device)
    precision = resolve_precision(config.training.precision, device)
    training = replace(config.training, precision=precision)
    vectors = replace(config.vectors, source=config.vectors.resolved_source)
    return replace(config, model=model, training=training, vectors=vectors)


def start_model(config: RunConfig, data: PreparedData, console: Console) -> GenerativeModel:
    """Build the model of a resolved configuration, its embedding started from the vectors.

    Raises:
        ConfigError: if settings contradict each other.
        DataError: if the vectors cannot be used.
    """
    if not config.vectors.trainable and config.model.tie_embeddings:
        raise ConfigError(
            "vectors.trainable = false and model.tie_embeddings = true freeze the output "
            "projection as well: change one of them"
        )
    table = vectors_of(config, data, console)
    if table is not None:
        console.note(table.describe())
    torch.manual_seed(config.training.seed)
    model = build(config.model)
    if table is not None:
        matrix = embedding_matrix(
            table,
            data.tokenizer.vocab_size,
            len(SPECIAL_TOKENS),
            config.model.hidden_size,
            config.training.seed,
        )
        with torch.no_grad():
            model.embedding.weight.copy_(torch.from_numpy(matrix))
            if not config.model.scale_embeddings:
                # The rows are made for a model that scales them; this one does not.
                model.embedding.weight.mul_(0.02 * np.sqrt(config.model.hidden_size))
    model.embedding.weight.requires_grad_(config.vectors.trainable)
    return model


def check_same_tokenizer(tokenizer: Tokenizer, data: PreparedData, source: Path) -> None:
    """Refuse data that was encoded with another tokenizer than a checkpoint's.

    Raises:
        DataError: naming both.
    """
    if tokenizer.fingerprint() != data.tokenizer.fingerprint():
        raise DataError(
            f"{source} was trained with tokenizer {tokenizer.fingerprint()}, the data now gives "
            f"{data.tokenizer.fingerprint()}: the corpus has changed since"
        )
