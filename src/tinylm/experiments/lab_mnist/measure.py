"""The lab on LoRA outside language: a classifier of digits and the classes that it is worst at.

A small network is trained for so short that some classes stay weak. Which ones is read from its
confusions on validation images. LoRA on the frozen network is then trained on batches that hold
more of these classes, the others rehearsed, and compared at equal steps and on equal batches with
training all layers, training the output layer alone, and training all layers on ordinary batches.
The test images are looked at once, at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tinylm.config import RunConfig
from tinylm.data.images import NUM_CLASSES, DigitData, ImageSet, load_digits, stratified_split
from tinylm.experiments.context import Context, environment, threads
from tinylm.experiments.lab_mnist.digits import (
    METHODS,
    Pixels,
    Tuned,
    accuracies,
    adapter_check,
    confusion,
    draw_batches,
    finetune,
    method_names,
    network,
    train,
)
from tinylm.experiments.lab_mnist.settings import MnistLab

_PAIRS = 5  # most frequent confusions that are listed
_SHOWN = 10  # images of them


@dataclass(frozen=True)
class _Splits:
    fit: Pixels
    validation: Pixels
    test: Pixels


def run(context: Context) -> dict[str, Any]:
    """Train the baseline, find its weak classes, fine-tune on them by every method, and compare.

    Returns:
        ``data``, ``network``, ``baseline`` (accuracies on validation and test, confusions, the
        ``hard`` classes), ``methods`` (a row each: trained parameters, bytes, learning rate,
        accuracies and seconds by seed), ``check`` of merging, ``confusion`` on test before and
        after, and ``examples``.

    Raises:
        DataError: if the images cannot be used.
    """
    settings: MnistLab = context.config.experiments.lab_mnist
    data = _load(settings)
    kept, held_out = stratified_split(data.train.labels, settings.validation_share, settings.seed)
    parts = [data.train.subset(kept), data.train.subset(held_out), data.test]
    splits = _Splits(*(Pixels.of(part, data.levels) for part in parts))
    seeds = range(settings.seed, settings.seed + settings.seeds)
    # One thread: layers this narrow gain nothing from a second, and wait for it.
    with threads(1), torch.random.fork_rng(devices=[]):
        with context.console.task("Training the baseline", 1.0) as done:
            bases = [_baseline(splits.fit, settings, seed) for seed in seeds]
            done(1.0)
        weakness = _weakness(bases, splits.validation, settings.hard_classes)
        with context.console.task("Fine-tuning by every method", 1.0) as done:
            tuned = _all_methods(bases, splits, weakness["hard"], settings, seeds, done)
        methods = [
            _row(name, rate, networks, splits.test) for name, (rate, networks) in tuned.items()
        ]
        chosen = tuned[f"lora-{settings.rank}"][1]
        check = adapter_check(bases[0][0], chosen[0].model, splits.test)
        examples = _examples(bases[0][0], chosen[0].model, parts[1], splits.validation, weakness)
        before = [accuracies(base, splits.test) for base, _ in bases]
        return {
            "environment": environment() | {"threads": 1},
            "data": {
                "name": data.name,
                "description": data.description,
                "fingerprint": data.fingerprint(),
                "shape": list(data.train.images.shape[1:]),
                "images": dict(zip(("fit", "validation", "test"), map(len, parts), strict=True)),
                "test_counts": np.bincount(data.test.labels, minlength=NUM_CLASSES).tolist(),
            },
            "network": {
                "sizes": [splits.fit.images.shape[1], *2 * [settings.hidden_size], NUM_CLASSES],
                "parameters": sum(p.numel() for p in bases[0][0].parameters()),
                "steps": settings.baseline_steps,
                "batch_size": settings.batch_size,
                "learning_rate": settings.baseline_learning_rate,
                "seconds": [seconds for _, seconds in bases],
            },
            "seeds": list(seeds),
            "baseline": weakness | {"test": before},
            "settings": {
                "steps": settings.steps,
                "rank": settings.rank,
                "hard_share": settings.hard_share,
                "learning_rates": list(settings.learning_rates),
            },
            "methods": methods,
            "check": check,
            "confusion": {
                "before": _pooled([base for base, _ in bases], splits.test),
                "after": _pooled([tuned_network.model for tuned_network in chosen], splits.test),
            },
            "flips": _flips(bases, chosen, splits.test),
            "examples": examples,
        }


def fingerprint(config: RunConfig) -> str:
    """Return what names the images that the result depends on.

    Raises:
        DataError: if they cannot be read.
    """
    return _load(config.experiments.lab_mnist).fingerprint()


def _load(settings: MnistLab) -> DigitData:
    return load_digits(settings.data, settings.test_share, settings.seed)


def _baseline(fit: Pixels, settings: MnistLab, seed: int) -> tuple[nn.Module, float]:
    """Return a trained network and the seconds it took."""
    model = network(fit.images.shape[1], settings.hidden_size, seed)
    batches = draw_batches(fit.labels, settings.baseline_steps, settings.batch_size, seed)
    began = time.perf_counter()
    train(model, fit, batches, settings.baseline_learning_rate)
    return model.eval(), time.perf_counter() - began


def _weakness(
    bases: Sequence[tuple[nn.Module, float]], validation: Pixels, number: int
) -> dict[str, Any]:
    """Find the classes with the lowest mean accuracy on validation, and what they are taken for."""
    table = _pooled([base for base, _ in bases], validation)
    by_seed = [accuracies(base, validation)["classes"] for base, _ in bases]
    mean = np.mean(by_seed, axis=0)
    counts = np.array(table)
    wrong = counts * (1 - np.eye(NUM_CLASSES, dtype=int))
    pairs = [divmod(int(place), NUM_CLASSES) for place in np.argsort(-wrong, axis=None)[:_PAIRS]]
    return {
        "validation": [accuracies(base, validation) for base, _ in bases],
        "confusion": table,
        "hard": sorted(int(digit) for digit in np.argsort(mean, kind="stable")[:number]),
        "confusions": [
            {
                "true": true,
                "predicted": predicted,
                "count": int(counts[true, predicted]),
                "share": float(counts[true, predicted] / counts[true].sum()),
            }
            for true, predicted in pairs
            if counts[true, predicted]
        ],
    }


def _all_methods(
    bases: Sequence[tuple[nn.Module, float]],
    splits: _Splits,
    hard: Sequence[int],
    settings: MnistLab,
    seeds: Sequence[int],
    progress: Callable[[float], None],
) -> dict[str, tuple[float, list[Tuned]]]:
    """Fine-tune every baseline by every method at every learning rate.

    Returns:
        Method -> the learning rate with the highest mean balanced accuracy on validation over the
        seeds, and what came of it, a seed each.
    """
    names = method_names({settings.rank, *settings.ranks})
    result: dict[str, tuple[float, list[Tuned]]] = {}
    batches = {
        focused: [
            draw_batches(
                splits.fit.labels, settings.steps, settings.batch_size, 1000 + seed,
                *((hard, settings.hard_share) if focused else ()),
            )
            for seed in seeds
        ]
        for focused in (True, False)
    }  # fmt: skip
    tries = [(rate, place) for rate in settings.learning_rates for place in range(len(bases))]
    trained: dict[str, dict[float, list[Tuned]]] = {
        name: {rate: [] for rate in settings.learning_rates} for name in names
    }
    # Methods take turns, so that a slow moment of the machine falls on all of them.
    for number, (rate, place) in enumerate(tries):
        for name in names:
            focused = name != METHODS.ordinary
            trained[name][rate].append(
                finetune(
                    bases[place][0], name, splits.fit, batches[focused][place], rate, seeds[place]
                )
            )
        progress((number + 1) / len(tries))
    for name, by_rate in trained.items():
        scores = {
            rate: np.mean(
                [
                    accuracies(tuned_network.model, splits.validation)["mean"]
                    for tuned_network in several
                ]
            )
            for rate, several in by_rate.items()
        }
        best = max(scores, key=lambda rate: scores[rate])
        result[name] = best, by_rate[best]
    return result


def _row(name: str, rate: float, networks: Sequence[Tuned], test: Pixels) -> dict[str, Any]:
    return {
        "name": name,
        "parameters": networks[0].parameters,
        "bytes": networks[0].num_bytes,
        "learning_rate": rate,
        "test": [accuracies(tuned_network.model, test) for tuned_network in networks],
        "seconds": [tuned_network.seconds for tuned_network in networks],
    }


def _pooled(models: Sequence[nn.Module], digits: Pixels) -> list[list[int]]:
    """Return the confusions of all models together, true class by predicted class."""
    return np.sum([confusion(model, digits) for model in models], axis=0).tolist()  # type: ignore[no-any-return]


def _flips(
    bases: Sequence[tuple[nn.Module, float]], tuned: Sequence[Tuned], test: Pixels
) -> dict[str, list[int]]:
    """Count the test images that became right and that became wrong, by seed."""
    gained, lost = [], []
    for (base, _), tuned_network in zip(bases, tuned, strict=True):
        before, after = (_right(model, test) for model in (base, tuned_network.model))
        gained.append(int((~before & after).sum()))
        lost.append(int((before & ~after).sum()))
    return {"gained": gained, "lost": lost}


@torch.no_grad()
def _right(model: nn.Module, digits: Pixels) -> Tensor:
    right: Tensor = model(digits.images).argmax(1) == digits.labels
    return right


@torch.no_grad()
def _examples(
    base: nn.Module,
    tuned: nn.Module,
    images: ImageSet,
    digits: Pixels,
    weakness: dict[str, Any],
) -> list[dict[str, Any]]:
    """Return validation images of the most frequent confusions of the first baseline."""
    before, after = (model(digits.images).argmax(1) for model in (base, tuned))
    shown: list[dict[str, Any]] = []
    each = _SHOWN // max(1, len(weakness["confusions"]))
    for pair in weakness["confusions"]:
        hit = (digits.labels == pair["true"]) & (before == pair["predicted"])
        for place in hit.nonzero().flatten()[:each].tolist():
            shown.append(
                {
                    "pixels": images.images[place].tolist(),
                    "true": pair["true"],
                    "before": int(before[place]),
                    "after": int(after[place]),
                }
            )
    return shown
