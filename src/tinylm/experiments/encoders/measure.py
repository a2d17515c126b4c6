"""The experiment on families of models: trainings, losses by context, a new task, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinylm import folders
from tinylm.experiments.context import Context, threads
from tinylm.experiments.encoders.asking import (
    FORMS,
    choices,
    losses_by_context,
    right_choices,
)
from tinylm.experiments.encoders.costs import by_context, training_speed
from tinylm.experiments.encoders.settings import EncodersExperiment
from tinylm.experiments.encoders.trainings import NAME, Text, measured, texts
from tinylm.experiments.encoders.variants import Variant, flops_per_token
from tinylm.fast import install
from tinylm.language_model import LanguageModel


def run(context: Context) -> dict[str, Any]:
    """Train every variant with every seed on both texts, and measure what each costs.

    Returns:
        ``variants``, what each is; ``texts``, of each the trainings with their curves, and what a
        step takes; ``contexts``, the loss by the tokens given; ``questions``, the right answers to
        questions of new forms; and ``costs`` by the length of text.

    Raises:
        StoppedBySignalError: if a signal stopped a training; its state is saved.
        TrainingError: if one diverged.
        ConfigError: if settings contradict each other, or no width gives a kind equal parameters.
        DataError: if there is too little text.
    """
    settings: EncodersExperiment = context.config.experiments.encoders
    seeds = range(settings.seed, settings.seed + settings.seeds)
    with threads(context.config.training.threads):
        both = texts(context)
        trained = [_trainings(context, text, seeds) for text in both]
        speeds = [training_speed(context, text) for text in both]
        costs = by_context(context, both[0])
    folders.remove(context.folder / NAME)
    stories = trained[0]
    names = [variant.name for variant in both[0].variants]
    return {
        "seeds": list(seeds),
        "held_out": settings.held_out,
        "variants": [_described(variant) for variant in both[0].variants],
        "texts": [
            {
                "name": text.name,
                "context": text.context_length,
                "tokens_per_step": text.tokens_per_step,
                "common_steps": text.common_steps,
                "vocab_size": text.data.tokenizer.vocab_size,
                "train_tokens": text.data.train.header.num_tokens,
                "asked": len(text.items),
                "guess": _guess(text),
                "trainings": [
                    {
                        **_training(text, variant, rows[variant.name]),
                        **speed[variant.name],
                    }
                    for variant in text.variants
                ],
            }
            for text, rows, speed in zip(both, trained, speeds, strict=True)
        ],
        "contexts": {
            "given": sorted(settings.given),
            "tail": settings.tail,
            "places": settings.places,
            "losses": {
                name: [
                    list(values)
                    for values in zip(*(r["contexts"] for r in stories[name]), strict=True)
                ]
                for name in names
            },
        },
        "questions": {
            "asked": settings.questions,
            "forms": [
                {
                    "name": form,
                    **stories[names[0]][0]["questions"][form]["example"],
                    "right": {
                        name: [row["questions"][form]["right"] for row in stories[name]]
                        for name in names
                    },
                }
                for form in FORMS
            ],
        },
        "costs": costs,
    }


def _described(variant: Variant) -> dict[str, Any]:
    """Return what a variant is, from its class."""
    model = variant.model
    return {
        "name": variant.name,
        "kind": variant.kind,
        "label": model.label,
        "predicts": variant.predicts,
        "needs_source": model.needs_source,
    }


def _trainings(
    context: Context, text: Text, seeds: Sequence[int]
) -> dict[str, list[dict[str, Any]]]:
    """Return what was measured of each variant: name -> a row a seed."""
    settings = text.settings
    rows: dict[str, list[dict[str, Any]]] = {variant.name: [] for variant in text.variants}
    tokenizer = text.data.tokenizer
    forms = (
        {}
        if text.items
        else {form: choices(form, tokenizer, settings.questions, settings.seed) for form in FORMS}
    )

    def more(lm: LanguageModel) -> dict[str, Any]:
        if not forms:
            return {}
        install(lm.model)
        return {
            "contexts": losses_by_context(
                lm.model, text.data.validation, sorted(settings.given), settings.tail,
                settings.places,
            ),
            "questions": {
                form: {
                    "right": float(np.mean(right_choices(lm.model, tokenizer, asked))),
                    "example": {"text": asked[0].text, "answer": asked[0].answer},
                }
                for form, asked in forms.items()
            },
        }  # fmt: skip

    for seed in seeds:
        for variant in text.variants:
            context.console.note(
                f"Training {variant.name} on {text.name}, {text.steps(variant.kind):,} steps, "
                f"seed {seed}"
            )
            rows[variant.name].append(measured(text, variant, seed, more))
    return rows


def _guess(text: Text) -> float | None:
    """Return what guessing gets of the items, or None without any."""
    return sum(item.guess for item in text.items) / len(text.items) if text.items else None


def _training(text: Text, variant: Variant, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    model = text.models[variant.kind]
    points = zip(*(row["curve"] for row in rows), strict=True)
    return {
        "name": variant.name,
        "hidden_size": model.hidden_size,
        "parameters": rows[0]["parameters"],
        "flops_per_token": flops_per_token(model),
        "steps": text.steps(variant.kind),
        "seconds": [row["seconds"] for row in rows],
        "curve": [
            {
                "step": point[0]["step"],
                **{key: [row[key] for row in point] for key in point[0] if key != "step"},
            }
            for point in points
        ],
    }
