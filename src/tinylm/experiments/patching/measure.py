"""The patching experiment: which places and heads carry an answer, over many pairs of prompts.

Pairs that the model answers wrong, on either prompt, are counted and left out: what carries an
answer that is not there cannot be asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from tinylm.config import RunConfig
from tinylm.data.pairs import BEHAVIOURS, EncodedPair, PromptPair, read_pairs, readable_pairs
from tinylm.errors import DataError
from tinylm.experiments.context import Console, Context, threads
from tinylm.interpretability.attribution_patching import agreement, attributions
from tinylm.interpretability.pair_runs import (
    LEAST_DIFFERENCE,
    Direction,
    PairRuns,
    TokenPair,
    effect,
    run_pair,
)
from tinylm.interpretability.patching import Site, patched, sweep
from tinylm.language_model import LanguageModel
from tinylm.measurement import mean
from tinylm.model.decoder import evaluating
from tinylm.printable import in_line
from tinylm.training.precision import resolve_device

DIRECTIONS: tuple[Direction, ...] = ("denoising", "noising")
GIVEN = "given"
"""The behaviour of a user's pairs."""
LEAST_RIGHT = 5
"""Pairs of a behaviour that must be answered right for it to be patched: of fewer no interval is of
use."""
_DECIMALS = 4
Encoded = tuple[PromptPair, EncodedPair]


def run(context: Context) -> dict[str, Any]:
    """Patch between the prompts of pairs, on the run's best checkpoint.

    Raises:
        CheckpointError: if there is none.
        DataError: if a user's pairs cannot be used, or no pair of the grammar can be read.
    """
    config = context.config
    lm = LanguageModel.load(context.folder, resolve_device(config.training.device))
    with threads(config.training.threads):
        return patching(lm, config, context.console)


def patching(lm: LanguageModel, config: RunConfig, console: Console) -> dict[str, Any]:
    """Measure every behaviour.

    Args:
        lm: the model.
        config: which pairs.
        console: where progress is shown.

    Returns:
        ``places`` of the residual stream, and a row a behaviour.

    Raises:
        DataError: as ``run``.
    """
    groups = _groups(lm, config)
    total = sum(len(pairs) for _, pairs in groups.values())
    behaviours = []
    with console.task("Patching between prompts", total) as done:
        before = 0
        for name, (asks, pairs) in groups.items():

            def progress(share: float, before: int = before) -> None:
                done(before + share)

            behaviours.append({"name": name, "asks": asks, **_behaviour(lm, pairs, progress)})
            before += len(pairs)
    model = lm.model.config
    return {"places": _places(model.num_layers), "heads": model.num_heads, "behaviours": behaviours}


def _groups(lm: LanguageModel, config: RunConfig) -> dict[str, tuple[str, list[Encoded]]]:
    settings = config.experiments.patching
    context = lm.model.config.context_length
    if settings.pairs_path is not None:
        given = read_pairs(settings.pairs_path, lm.tokenizer, context)
        return {GIVEN: ("what the given pairs ask", given)}
    groups = {
        name: (
            behaviour.asks,
            readable_pairs(name, settings.seed, settings.pairs, lm.tokenizer, context),
        )
        for name, behaviour in BEHAVIOURS.items()
    }
    groups = {name: group for name, group in groups.items() if group[1]}
    if not groups:
        raise DataError(
            "none of the story grammar's prompts can be read by this model, whose vocabulary lacks "
            "their words or cuts them into pieces: give pairs of your own with "
            "experiments.patching.pairs_path"
        )
    return groups


def _behaviour(
    lm: LanguageModel, pairs: Sequence[Encoded], progress: Callable[[float], None]
) -> dict[str, Any]:
    differences = _differences(lm, [encoded for _, encoded in pairs])
    right = [
        encoded
        for (_, encoded), (clean, corrupted) in zip(pairs, differences, strict=True)
        if clean > 0 > corrupted and clean - corrupted > LEAST_DIFFERENCE
    ]
    result: dict[str, Any] = {
        "pairs": len(pairs),
        "right": len(right),
        "prompt": pairs[0][0].clean,
        "clean_difference": sum(clean for clean, _ in differences) / len(pairs),
        "corrupted_difference": sum(corrupted for _, corrupted in differences) / len(pairs),
    }
    if len(right) < LEAST_RIGHT:
        return result
    measured: dict[str, dict[str, list[list[float]]]] = {way: {} for way in DIRECTIONS}
    for number, encoded in enumerate(right):
        runs = run_pair(lm.model, TokenPair(**asdict(encoded)))
        for way in DIRECTIONS:
            for key, values in _measures(runs, way).items():
                measured[way].setdefault(key, []).append(values)
        progress(len(pairs) * (number + 1) / len(right))
    for name, columns in measured.items():
        result[name] = {key: _means(rows) for key, rows in columns.items()}
    result["example"] = _example(lm, right[0])
    return result


@torch.no_grad()
def _differences(lm: LanguageModel, pairs: Sequence[EncodedPair]) -> list[tuple[float, float]]:
    """Return the logit difference of each pair after the clean and the corrupted prompt."""
    differences = []
    with evaluating(lm.model):
        for pair in pairs:
            ids = torch.tensor(
                [pair.clean, pair.corrupted], device=lm.model.embedding.weight.device
            )
            logits = lm.model.unembed(lm.model.residual(ids)[:, -1]).double()
            clean, corrupted = (logits[:, pair.answer] - logits[:, pair.wrong]).tolist()
            differences.append((clean, corrupted))
    return differences


def _measures(runs: PairRuns, way: Direction) -> dict[str, list[float]]:
    """Return effects of one pair: by place and part of the prompt, by head and layer; agreement."""
    base, source = runs.base_and_source(way)
    layers = base.num_layers
    last, first = runs.length - 1, runs.first_changed
    parts = [[first], list(range(first + 1, last)), [last]]
    sites = [
        [Site(place, position) for position in positions]
        for place in _places(layers)
        for positions in parts
    ]
    stream = effect(runs.normalised(patched(base, source, sites)), way)
    together = sweep(
        runs, way, ["layers.*.attention.mixed", "layers.*.feed_forward.output"], by_position=False
    )
    names = ["layers.*.attention.mixed", "layers.*.feed_forward.output"]
    each, estimated = sweep(runs, way, names), attributions(runs, way, names)
    compared = agreement(estimated, each, way)
    heads = [effect(values, way) for name, values in together.items() if name.endswith("mixed")]
    forward = [effect(values, way) for name, values in together.items() if name.endswith("output")]
    return {
        "stream": stream.tolist(),
        "heads": torch.cat(heads).tolist(),
        "feed_forward": torch.stack(forward).tolist(),
        "correlation": [compared.correlation],
        "same_sign": [compared.same_sign],
    }


def _means(rows: Sequence[Sequence[float]]) -> list[list[float | None]]:
    """Return the mean over pairs, with its interval, of each column; NaNs are left out."""
    columns = [[v for v in column if not math.isnan(v)] for column in zip(*rows, strict=True)]
    return [
        [None if part is None else round(part, _DECIMALS) for part in mean(column).as_result()]
        for column in columns
    ]


def _example(lm: LanguageModel, encoded: EncodedPair) -> dict[str, Any]:
    """Return all effects on one pair: (places, positions) and (all heads, positions)."""
    runs = run_pair(lm.model, TokenPair(**asdict(encoded)))

    def spell(token: int) -> str:
        return in_line(lm.tokenizer.token(token))

    def rounded(values: Tensor) -> list[list[float]]:
        return [[round(value, _DECIMALS) for value in row] for row in values.tolist()]

    result: dict[str, Any] = {
        "clean": [spell(token) for token in encoded.clean],
        "corrupted": [spell(token) for token in encoded.corrupted],
        "answer": spell(encoded.answer),
        "wrong": spell(encoded.wrong),
    }
    places = _places(runs.clean.num_layers)
    for way in DIRECTIONS:
        values = sweep(runs, way, [*places, "layers.*.attention.mixed"])
        heads = [values[name] for name in values if name.endswith("mixed")]
        result[way] = {
            "stream": rounded(effect(torch.stack([values[place] for place in places]), way)),
            "heads": rounded(effect(torch.cat(heads), way)),
        }
    return result


def _places(layers: int) -> list[str]:
    """Return the places of the residual stream, in their order."""
    inner = [f"layers.{i}.{place}" for i in range(layers) for place in ("input", "middle")]
    return [*inner, f"layers.{layers - 1}.residual"]
