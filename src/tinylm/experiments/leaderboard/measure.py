"""The leaderboard: every kind of model that scores texts, with every tokenizer, at one budget."""

from __future__ import annotations

from itertools import islice
from typing import Any

from tinylm import folders
from tinylm.config import ModelConfig
from tinylm.errors import DataError
from tinylm.evaluation.text_bits import after_first_sentence
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
    width_of,
)
from tinylm.experiments.leaderboard.settings import LeaderboardExperiment
from tinylm.planning.parameters import parameter_counts
from tinylm.registry import MODELS, TOKENIZERS

NAME = "leaderboard"


def kinds() -> list[str]:
    """Return the kinds of models that say how probable the rest of a text is."""
    return [kind for kind in MODELS if MODELS.load(kind).scores_texts]


def run(context: Context) -> dict[str, Any]:
    """Train every kind with every tokenizer and seed, and score the rest of held-out texts.

    Returns:
        ``rows``, one for each kind and tokenizer: sizes, ``steps``, ``tokens`` and ``flops`` of
        its training, and, a value each seed, ``bits_per_byte`` and ``tokens_per_second``.

    Raises:
        StoppedBySignalError: if a signal stopped a training; its state is saved.
        TrainingError: if one diverged.
        ConfigError: if the FLOPs are too few, or a vocabulary is smaller than the alphabet.
        DataError: if no held-out text has a second sentence.
    """
    settings: LeaderboardExperiment = context.config.experiments.leaderboard
    every = cuts([settings.vocab_size])
    seeds = range(settings.seed, settings.seed + settings.seeds)
    rows: dict[tuple[str, Cut], dict[str, Any]] = {}
    with threads(context.config.training.threads):
        data = {cut: prepared(context, cut, "experiments.leaderboard.vocab_size") for cut in every}
        corpus = next(iter(data.values())).corpus
        whole = (after_first_sentence(text) for text in corpus.validation())
        texts = list(islice((parts for parts in whole if parts), settings.held_out))
        if not texts:
            raise DataError("no validation text has two sentences, so that none has a rest")
        tell_fewer(
            context.console, "experiments.leaderboard.held_out", settings.held_out, len(texts)
        )
        restoring = {cut: restoring_of(data[cut], settings.fitted) for cut in every}
        models = {
            (kind, cut): _model(settings, kind, data[cut].tokenizer.vocab_size)
            for kind in kinds()
            for cut in every
        }
        for (kind, cut), model in models.items():  # whatever could be refused is, before training
            config_of(context, NAME, cut, model, settings.seed)
            rows[kind, cut] = {
                "model": kind,
                "tokenizer": cut.kind,
                "label": TOKENIZERS.load(cut.kind).label,
                "vocab_size": model.vocab_size,
                "hidden_size": model.hidden_size,
                "parameters": parameter_counts(model)["total"],
                "bits_per_byte": [],
                "tokens_per_second": [],
            }
        for seed in seeds:
            for (kind, cut), model in models.items():
                context.console.note(f"Training {kind} with {cut.name}, seed {seed}")
                scored = train_and_score(
                    context,
                    NAME,
                    f"{kind}-{cut.kind}-{seed}",
                    config_of(context, NAME, cut, model, seed),
                    data[cut],
                    texts,
                    restoring[cut],
                )
                row, steps = rows[kind, cut], scored.result["steps"]
                row |= {
                    "steps": steps,
                    "tokens": scored.result["tokens_seen"],
                    "flops": steps * flops_of_step(settings, model),
                }
                row["bits_per_byte"].append(scored.bits_per_byte)
                row["tokens_per_second"].append(scored.result["tokens_per_second"])
    folders.remove(context.folder / NAME)
    return {
        "seeds": list(seeds),
        "texts": len(texts),
        "bytes": sum(len(parts.rest.encode()) for parts in texts),
        "num_layers": settings.num_layers,
        "hidden_size": settings.hidden_size,
        "context_length": settings.context_length,
        "vocab_size": settings.vocab_size,
        "flops": settings.flops,
        "reference": ModelConfig().kind,
        "rows": list(rows.values()),
    }


def _model(settings: LeaderboardExperiment, kind: str, vocab_size: int) -> ModelConfig:
    """Return a model of a kind whose training step costs what the decoder's does."""
    reference = shape(ModelConfig().kind, settings, vocab_size, settings.hidden_size)
    width = width_of(kind, settings, vocab_size, flops_of_step(settings, reference))
    return shape(kind, settings, vocab_size, width)
