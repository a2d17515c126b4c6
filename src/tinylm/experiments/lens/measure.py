"""The lens experiment: the stream of validation stories read at every place, and its parts.

Every story is one sample: intervals come from leaving out one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinylm.experiments.context import Context, tell_fewer, threads
from tinylm.experiments.lens.reading import as_reading
from tinylm.experiments.lens.settings import LensExperiment
from tinylm.experiments.lens.tuning import spread_stories, tune
from tinylm.experiments.preparation import encoded_split
from tinylm.interpretability.attribution import logit_attribution
from tinylm.interpretability.lens import STREAM, Lens, lens
from tinylm.interpretability.trace import Trace, trace
from tinylm.interpretability.tuned_lens import TunedLens
from tinylm.language_model import LanguageModel
from tinylm.measurement import Replicates, mean_replicates, paired
from tinylm.printable import in_line
from tinylm.training.precision import resolve_device

_TOKENS = 1024
"""Read at a time, about."""
_SENTENCE = 12
"""Tokens of the example, at most."""

Array = NDArray[np.float64]


def run(context: Context) -> dict[str, Any]:
    """Read validation stories with both lenses, and attribute their logits.

    Raises:
        CheckpointError: if the run has no checkpoint.
        DataError: if the corpus cannot be used.
    """
    config, console = context.config, context.console
    settings: LensExperiment = config.experiments.lens
    lm = LanguageModel.load(context.folder, resolve_device(config.training.device))
    validation = encoded_split(config.data, lm.tokenizer, "validation", console)
    tell_fewer(console, "experiments.lens.stories", settings.stories, len(validation))
    texts = spread_stories(validation, settings.stories, lm.model.config.context_length)
    tuned = tune(lm, config, console)
    with threads(config.training.threads):
        with console.task("Reading the stream", len(texts)) as done:
            sums = []
            for part in _batches(texts):
                sums += _read(lm, part, tuned)
                done(len(sums))
        with console.task("Attributing logits", len(texts)) as done:
            names: tuple[str, ...] = ()
            attributed: list[tuple[Array, int]] = []
            for part in _batches(texts):
                names, rows = _attribute(lm, part)
                attributed += rows
                done(len(attributed))
        example = _example(lm, texts[0][:_SENTENCE], tuned)
    return {
        "stories": len(texts),
        "positions": int(sum(count for _, count in sums)),
        "norm_placement": lm.model.config.norm_placement,
        "tuned_stories": settings.tuned_stories,
        "steps": settings.steps,
        "places": _places(example["logit"]["places"], sums),
        "followed": int(sum(count for _, count in attributed)),
        "parts": _parts(names, attributed),
        "example": example,
    }


def _batches(texts: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Yield a few texts at a time, in order."""
    longest = max(map(len, texts))
    size = max(1, _TOKENS // longest)
    for start in range(0, len(texts), size):
        yield list(texts[start : start + size])


def _read(
    lm: LanguageModel, texts: Sequence[Sequence[int]], tuned: TunedLens
) -> list[tuple[Array, int]]:
    """Return, of each text, sums over its positions, (2 lenses, 2 measures, places), and how many.

    The measures are the divergence and whether the likeliest word is that of the end.
    """
    traced = trace(lm.model, texts, names=STREAM)
    both = torch.stack([_summed(lens(traced, 1, how), traced) for how in (None, tuned)])
    counts = traced.real.sum(1).tolist()
    return [(both[..., i].cpu().numpy(), counts[i]) for i in range(len(texts))]


def _summed(read: Lens, traced: Trace) -> Tensor:
    """Return the sums of both measures, (2, places, batch)."""
    measures = torch.stack([read.divergences.double(), read.agrees.double()])
    return measures.masked_fill(~traced.real, 0).sum(-1)


def _attribute(
    lm: LanguageModel, texts: Sequence[Sequence[int]]
) -> tuple[tuple[str, ...], list[tuple[Array, int]]]:
    """Return the parts, and of each text what they add in sum over its positions, and how many.

    It is the logit of the word that follows, less the mean logit of the vocabulary.
    """
    traced = trace(lm.model, texts)
    follows = traced.real[:, 1:]
    answers = torch.zeros_like(traced.ids)
    answers[:, :-1] = traced.ids[:, 1:]
    attribution = logit_attribution(traced, answers, "mean")
    kept = attribution.values[..., :-1].double().masked_fill(~follows, 0).sum(-1).cpu().numpy()
    counts = follows.sum(1).tolist()
    return attribution.names, [(kept[:, i], counts[i]) for i in range(len(texts))]


def _places(names: Sequence[str], sums: Sequence[tuple[Array, int]]) -> list[dict[str, Any]]:
    """Return both measures of both lenses at every place, with their intervals."""
    values = np.stack([part for part, _ in sums])  # (stories, lenses, measures, places)
    counts = [count for _, count in sums]

    def replicates(which: int, measure: int, place: int) -> Replicates:
        return mean_replicates(values[:, which, measure, place], counts)

    rows = []
    for place, name in enumerate(names):
        row: dict[str, Any] = {"place": name}
        for measure, key in enumerate(("divergence", "agreement")):
            logit, tuned = (replicates(which, measure, place) for which in (0, 1))
            row[key] = {
                "logit": logit.interval.as_result(),
                "tuned": tuned.interval.as_result(),
                "tuned_less_logit": paired(tuned, logit).as_result(),
                "less_before": None
                if place == 0
                else paired(logit, replicates(0, measure, place - 1)).as_result(),
            }
        rows.append(row)
    return rows


def _parts(names: Sequence[str], attributed: Sequence[tuple[Array, int]]) -> list[dict[str, Any]]:
    """Return what each part adds on average, with its interval."""
    values = np.stack([part for part, _ in attributed])  # (stories, parts)
    counts = [count for _, count in attributed]
    return [
        {"part": name, "adds": mean_replicates(values[:, i], counts).interval.as_result()}
        for i, name in enumerate(names)
    ]


def _example(lm: LanguageModel, ids: Sequence[int], tuned: TunedLens) -> dict[str, Any]:
    """Return the beginning of a story as both lenses read it."""

    def spell(token: int) -> str:
        return in_line(lm.tokenizer.token(token))

    traced = trace(lm.model, [ids], [[spell(i) for i in ids]], STREAM)
    return {
        "logit": as_reading(lens(traced, 1), spell),
        "tuned": as_reading(lens(traced, 1, tuned), spell),
    }
