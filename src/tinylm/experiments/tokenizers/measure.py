"""The experiment on tokenizers: one budget with each, and what their texts cost."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from tinylm import folders
from tinylm.config import GenerationConfig, ModelConfig
from tinylm.data.corpora import Corpus
from tinylm.evaluation.speed import run_interleaved
from tinylm.evaluation.text_bits import Parts
from tinylm.experiments.context import Context, tell_fewer, threads
from tinylm.experiments.equal_budget import (
    Cut,
    config_of,
    cuts,
    flops_of_step,
    prepared,
    restoring_of,
    shape,
    train_and_score,
)
from tinylm.experiments.preparation import PreparedData
from tinylm.experiments.tokenizers.settings import TokenizersExperiment
from tinylm.experiments.tokenizers.sums import missed, together
from tinylm.generation.engine import generate
from tinylm.language_model import SPECIAL_IDS, LanguageModel
from tinylm.planning.flops import flops_per_token
from tinylm.planning.parameters import parameter_counts
from tinylm.registry import TOKENIZERS
from tinylm.tokenizers.base import SOS_ID, UNK_ID, Tokenizer

NAME = "tokenizers"
_WORD = re.compile(r"\S+")


def run(context: Context) -> dict[str, Any]:
    """Train a model with every tokenizer and seed, and score held-out texts with each.

    Returns:
        ``tokenizers``, a row each: what it is (``kind``, ``size``, ``vocab_size``), what it makes
        of held-out texts (``bytes_per_token``, ``tokens_per_word``, ``unknown``, ``restored``),
        what the model costs, and lists with a value each seed: ``bits_per_byte``,
        ``token_bits_per_byte``, ``perplexity``, ``tokens_per_second``; ``decoding``, a measurement
        of each; ``sums``, what the canonical segmentation misses; ``unseen``, the cuts of words
        that the training text does not have.

    Raises:
        StoppedBySignalError: if a signal stopped a training; its state is saved.
        TrainingError: if one diverged.
        ConfigError: if the FLOPs are too few, or a vocabulary is smaller than the alphabet.
    """
    settings: TokenizersExperiment = context.config.experiments.tokenizers
    every = cuts(settings.sizes)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    rows: dict[Cut, dict[str, Any]] = {}
    models: dict[str, LanguageModel] = {}
    sums: dict[str, list[dict[str, Any]]] = {}
    with threads(context.config.training.threads):
        data = {cut: _prepared(context, cut) for cut in every}
        corpus = next(iter(data.values())).corpus
        texts = list(islice(corpus.validation(), settings.held_out))
        tell_fewer(
            context.console, "experiments.tokenizers.held_out", settings.held_out, len(texts)
        )
        restoring = {cut: restoring_of(data[cut], settings.fitted) for cut in every}
        configs = {cut: _model(settings, data[cut]) for cut in every}
        for cut in every:  # whatever could be refused is, before the first training
            config_of(context, NAME, cut, configs[cut], settings.seed)
            rows[cut] = _row(settings, cut, data[cut], configs[cut], texts)
        for seed in seeds:
            for cut in every:
                context.console.note(f"Training with {cut.name}, seed {seed}")
                scored = train_and_score(
                    context,
                    NAME,
                    f"{cut.name.replace(' ', '-')}-{seed}",
                    config_of(context, NAME, cut, configs[cut], seed),
                    data[cut],
                    [Parts("", text) for text in texts],
                    restoring[cut],
                )
                steps = scored.result["steps"]
                rows[cut] |= {
                    "steps": steps,
                    "flops": steps * flops_of_step(settings, configs[cut]),
                    "tokens": scored.result["tokens_seen"],
                    "epochs": scored.result["tokens_seen"] / data[cut].train.header.num_tokens,
                }
                for key, value in (
                    ("bits_per_byte", scored.bits_per_byte),
                    ("token_bits_per_byte", scored.token_bits_per_byte),
                    ("perplexity", scored.perplexity),
                    ("tokens_per_second", scored.result["tokens_per_second"]),
                ):
                    rows[cut].setdefault(key, []).append(value)
                models.setdefault(cut.name, scored.model)
                measured = missed(scored.model, texts, settings)
                if measured is not None:
                    sums.setdefault(cut.name, []).append(measured)
        decoding = _decoding(models, settings)
    folders.remove(context.folder / NAME)
    return {
        "seeds": list(seeds),
        "texts": len(texts),
        "bytes": sum(len(text.encode()) for text in texts),
        "words": sum(len(_WORD.findall(text)) for text in texts),
        "num_layers": settings.num_layers,
        "hidden_size": settings.hidden_size,
        "context_length": settings.context_length,
        "batch_size": settings.batch_size,
        "flops": settings.flops,
        "fitted": settings.fitted,
        "new_tokens": settings.new_tokens,
        "tokenizers": [row | {"decoding": decoding[cut.name]} for cut, row in rows.items()],
        "prefixes": settings.prefixes,
        "sums": [{"name": name, **together(each)} for name, each in sums.items()],
        "unseen": _unseen(settings.unseen, corpus, {c.name: data[c].tokenizer for c in every}),
    }


def _prepared(context: Context, cut: Cut) -> PreparedData:
    context.console.note(f"Preparing {cut.name}")
    return prepared(context, cut, "experiments.tokenizers.sizes")


def _model(settings: TokenizersExperiment, data: PreparedData) -> Any:
    return shape(ModelConfig().kind, settings, data.tokenizer.vocab_size, settings.hidden_size)


def _row(
    settings: TokenizersExperiment,
    cut: Cut,
    data: PreparedData,
    model: Any,
    texts: Sequence[str],
) -> dict[str, Any]:
    """Return what needs no training: what a tokenizer makes of texts, and what its model costs."""
    tokenizer = data.tokenizer
    rows = tokenizer.encode_batch(texts)
    tokens = sum(map(len, rows))
    parameters = parameter_counts(model)
    unknown = tokenizer.unknown_words(texts)
    content = sum(len(text.encode()) for text in texts)
    return {
        "name": cut.name,
        "kind": cut.kind,
        "size": cut.size,
        "label": TOKENIZERS.load(cut.kind).label,
        "vocab_size": tokenizer.vocab_size,
        "bytes_per_token": content / tokens,
        "tokens_per_word": tokens / sum(len(_WORD.findall(text)) for text in texts),
        "unknown": sum(row.count(UNK_ID) for row in rows) / tokens,
        "unknown_words": len(unknown),
        "restored": sum(
            text == decoded
            for text, decoded in zip(texts, tokenizer.decode_batch(rows), strict=True)
        )
        / len(texts),
        "parameters": parameters["total"],
        "of_vocabulary": parameters["embedding"] + parameters["unembedding"],
        "flops_per_token": flops_per_token(model),
    }


def _decoding(
    models: Mapping[str, LanguageModel], settings: TokenizersExperiment
) -> dict[str, dict[str, Any]]:
    """Return how long each model takes for the same number of new tokens of one text."""
    new = settings.new_tokens
    config = GenerationConfig(strategy="sampling", max_new_tokens=new, min_new_tokens=new)

    def work(lm: LanguageModel) -> object:
        return generate(lm.model, [[SOS_ID]], config, SPECIAL_IDS)

    timed = run_interleaved(
        {name: partial(work, lm) for name, lm in models.items()}, settings.rounds
    )
    return {name: measured.as_result() for name, measured in timed.items()}


def _unseen(
    words: Sequence[str], corpus: Corpus, tokenizers: Mapping[str, Tokenizer]
) -> list[dict[str, Any]]:
    """Return how each tokenizer cuts the words that no training text has."""
    wanted = {word: re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE) for word in words}
    for text in corpus.train():
        wanted = {word: form for word, form in wanted.items() if not form.search(text)}
    return [
        {
            "word": word,
            "cuts": {
                name: [tokenizer.token(token) for token in tokenizer.encode(word)]
                for name, tokenizer in tokenizers.items()
            },
        }
        for word in wanted
    ]
