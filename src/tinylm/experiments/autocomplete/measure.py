"""The experiment on what next-token prediction learns: trainings, accuracy, state, a head."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from tinylm import folders
from tinylm.data.corpora.skill_grammar import TASKS
from tinylm.data.corpora.skill_grammar.items import Item
from tinylm.experiments.autocomplete import state
from tinylm.experiments.autocomplete.heads import with_head
from tinylm.experiments.autocomplete.settings import AutocompleteExperiment
from tinylm.experiments.autocomplete.trainings import (
    NAME,
    Trained,
    Variant,
    accuracies,
    asked,
    commands,
    curve,
    main_variant,
    right_answers,
    train,
    variants,
)
from tinylm.experiments.context import Context, threads
from tinylm.language_model import LanguageModel
from tinylm.model.base import build

HOLDER = "holder"
_SHOWN = 80
"""Items among which an example is looked for."""

Asked = Mapping[str, Mapping[str, Sequence[Item]]]


def run(context: Context) -> dict[str, Any]:
    """Train every variant with every seed, ask all of them, and look into the main ones.

    Returns:
        ``trainings``, a row each variant with its accuracies by kind of item, task and seed;
        ``curve`` of the main variant; ``tasks`` with an example; ``reading`` and ``exchange`` of
        the holder's state; and ``heads``, the question of the holder asked in three ways.

    Raises:
        StoppedBySignalError: if a signal stopped a training; its state is saved.
        TrainingError: if one diverged.
        DataError: if a task has no item with these settings.
    """
    settings: AutocompleteExperiment = context.config.experiments.autocomplete
    seeds = range(settings.seed, settings.seed + settings.seeds)
    main = main_variant(settings)
    every = variants(settings)
    rows: dict[Variant, list[dict[str, Any]]] = {variant: [] for variant in every}
    curves, readings, exchanges, heads = [], [], [], []
    tasks: list[dict[str, Any]] = []
    with threads(context.config.training.threads):
        for seed in seeds:
            for variant in every:
                points = settings.points if variant == main else 1
                trained = _told(context, variant, seed, points)
                items = asked(trained.corpus, settings.held_out)
                if variant != main:
                    rows[variant].append(_row(trained, accuracies(trained.model(), items)))
                    continue
                curves.append(curve(trained, items))
                rows[variant].append(_row(trained, curves[-1][-1]["accuracy"]))
                read, exchanged = _state(trained, settings, seed)
                readings.append(read)
                exchanges.append(exchanged)
                heads.append(_heads(context, main, trained, items, rows[variant][-1], seed))
                tasks = tasks or _tasks(trained.model(), items)
    result = {
        "seeds": list(seeds),
        "held_out": settings.held_out,
        "steps": settings.steps,
        "tokens_per_step": settings.batch_size * settings.context_length,
        "num_layers": settings.num_layers,
        "main": {"items": main.items, "hidden_size": main.hidden_size, "withheld": main.withheld},
        "tasks": tasks,
        "trainings": [
            {
                "items": variant.items,
                "hidden_size": variant.hidden_size,
                "withheld": variant.withheld,
                **_by_seed(measured),
            }
            for variant, measured in rows.items()
        ],
        "curve": [_by_seed(points) for points in zip(*curves, strict=True)],
        "reading": [_by_seed(layers) for layers in zip(*readings, strict=True)],
        "stories": settings.stories,
        "exchange": {
            "pairs": [each["pairs"] for each in exchanges],
            "layers": [
                _by_seed(layers) for layers in zip(*(e["layers"] for e in exchanges), strict=True)
            ],
        },
        "heads": _by_seed(heads),
    }
    folders.remove(context.folder / NAME)  # once nothing is left that could fail
    return result


def _told(context: Context, variant: Variant, seed: int, points: int) -> Trained:
    context.console.note(
        f"Training on {variant.items:,} items, {100 * variant.withheld:g}% of the facts withheld, "
        f"{variant.hidden_size} wide, seed {seed}"
    )
    return train(context, variant, seed, points)


def _row(trained: Trained, accuracy: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "parameters": trained.result["parameters"]["total"],
        "seconds": trained.result["seconds"],
        "epochs": trained.result["epochs"],
        "loss": trained.result["validations"][-1]["loss"],
        "accuracy": accuracy,
    }


def _by_seed(rows: Sequence[Any]) -> Any:
    """Return what is alike in form of every seed as one: leaves become lists, a value each seed.

    A task that some seed has no items of is left out.
    """
    if isinstance(rows[0], Mapping):
        common = [key for key in rows[0] if all(key in row for row in rows)]
        return {key: _by_seed([row[key] for row in rows]) for key in common}
    return list(rows)


def _tasks(lm: LanguageModel, items: Asked) -> list[dict[str, Any]]:
    """Return what a task looks like: an item, what guessing gets, and how many were asked."""
    rows = []
    for task in TASKS:
        withheld = items["withheld"][task]
        right = right_answers(lm, {task: withheld[:_SHOWN]})[task]
        shown = withheld[right.index(True) if any(right) else 0]
        rows.append(
            {
                "name": task,
                "prompt": shown.prompt,
                "answer": shown.answer,
                "guess": sum(item.guess for item in withheld) / len(withheld),
                "asked": {kind: len(of_kind[task]) for kind, of_kind in items.items()},
            }
        )
    return rows


def _state(
    trained: Trained, settings: AutocompleteExperiment, seed: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    lm = trained.model()
    narrated = state.read(lm, state.stories(trained.corpus, settings.stories, seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untrained = build(lm.model.built).to(lm.model.embedding.weight.device).eval()
    return state.readings(lm, untrained, narrated, seed), state.exchanges(
        lm, narrated, settings.patched
    )


def _heads(
    context: Context,
    main: Variant,
    mixed: Trained,
    items: Asked,
    row: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Return how often the holder is right in three ways: kind of item -> share, of each."""
    began = time.perf_counter()
    alone = train(context, replace(main, tasks=(HOLDER,)), seed)
    stories = {kind: of_kind[HOLDER] for kind, of_kind in items.items() if kind != "trained"}
    head = with_head(context, alone, stories, commands(context))
    text = accuracies(alone.model(), {kind: {HOLDER: each} for kind, each in stories.items()})
    return {
        "mixed": {kind: row["accuracy"][kind][HOLDER] for kind in stories},
        "alone": {kind: text[kind][HOLDER] for kind in stories},
        "head": head["accuracy"],
        "parameters": {"text": row["parameters"], "head": head["parameters"]},
        "stories": {"head": head["stories"]},
        "seconds": time.perf_counter() - began,
    }
