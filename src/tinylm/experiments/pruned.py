"""Pruning a run's model, and training what is left: at once, gradually, or from an earlier step.

One shot: prune, then train on (``retraining``). Gradual: the share of masked weights rises while it
is trained, along a cubic curve over the first two thirds of the steps. Rewinding (Frankle et al.
2020): the masks are those of the trained weights, and training starts anew from the weights of a
step soon after the first, with a new optimizer and schedule; it needs the run's snapshots.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinylm.checkpoint import load_checkpoint, step_of
from tinylm.compression.masking import Masking, held_share, targets
from tinylm.compression.pruner import Pruner, refuse_share
from tinylm.config import to_dict
from tinylm.data.windows import Windows, windows_of
from tinylm.errors import ConfigError, TrainingError
from tinylm.evaluation.perplexity import split_loss
from tinylm.experiments.compressing import (
    Compression,
    before,
    new_run,
    refuse_adapted,
    write_compressed,
    write_unfinished,
)
from tinylm.experiments.context import Context, create_run, run_experiment, threads
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.records import Compressed, Retraining, Rising, read_compression
from tinylm.experiments.retraining import calibration_of, last_rise, retraining, run_rate
from tinylm.language_model import LanguageModel
from tinylm.model.base import GenerativeModel
from tinylm.model.masks import hold, masks_of
from tinylm.registry import PRUNERS
from tinylm.training.snapshots import snapshots_of

_LOSSES = {
    "before": ("of the run", "its model is broken, train it again"),
    "pruned": ("after pruning", "prune less"),
}
"""Of ``Losses``: what each is, and what to do where it is not finite."""


@dataclass(frozen=True)
class Pruning:
    """What is asked for."""

    method: str
    """Name in the registry PRUNERS."""
    share: float | None
    """Of the weights, or of the parts, that go; None: the settings say it."""
    settings: Any
    """Of the method."""
    steps: int = 0
    """Optimizer steps afterwards; 0: none."""
    learning_rate: float | None = None
    """Of these steps; None: a share of the run's (``retraining.RATE``)."""
    gradual: bool = False
    """Whether the share rises while it is trained."""
    rewind: int | None = None
    """The step whose weights training starts from; None: it goes on from those that are there."""


@dataclass(frozen=True)
class Losses:
    """Validation losses, in nats a token."""

    before: float
    pruned: float | None
    """With nothing trained; in gradual pruning, as it came out of the last rise, None until then.
    """
    after: float | None
    """After training, None until it has ended; without any, that of ``pruned``."""


def refuse_pruning(context: Context, asked: Pruning) -> None:
    """Refuse what contradicts itself, before anything is read.

    Raises:
        ConfigError: naming the options.
        CompressionError: for a share that cannot be, or a run whose record is damaged.
    """
    method: type[Pruner] = PRUNERS.load(asked.method)
    read_compression(context.folder)  # it is kept with what comes of this
    if asked.share is not None:
        refuse_share(asked.share)
    for option, given in (
        ("--learning-rate", asked.learning_rate is not None),
        ("--gradual", asked.gradual),
        ("--rewind", asked.rewind is not None),
    ):
        if given and not asked.steps:
            raise ConfigError(f"{option} is about training: give --retrain-steps")
    if method.removes and (asked.gradual or asked.rewind is not None):
        option = "--gradual" if asked.gradual else "--rewind"
        raise ConfigError(
            f"{option} is about masks, and {asked.method} removes parts: leave it out"
        )
    if asked.gradual and bool(asked.settings.pattern):
        raise ConfigError("--gradual: a pattern has one share only: leave one of them out")
    if asked.gradual and asked.rewind is not None:
        raise ConfigError("--rewind needs the masks of trained weights: leave out --gradual")
    if asked.rewind is not None:
        _snapshot(context, asked.rewind)
    if asked.steps:
        retraining(context, asked.steps, asked.learning_rate)


@dataclass(frozen=True)
class PrunedRun:
    """What came of it."""

    lm: LanguageModel
    """The pruned model, or what gradual pruning begins with; its source is the run's checkpoint."""
    losses: Losses
    record: Compression
    """As ``compressing.write_compressed`` takes it, unless something is to be trained."""
    retraining: Retraining | None
    """What is to be trained."""


def prune_into(context: Context, out: Path, asked: Pruning) -> Compressed:
    """Prune a run's model and train what is left; ``out`` becomes a run.

    Args:
        context: the run.
        out: a new folder.
        asked: what is asked for.

    Returns:
        What compression.json holds.

    Raises:
        ConfigError: for a folder that is not empty, what contradicts itself, and too few texts.
        CompressionError: for what cannot go.
        TrainingError: if a loss is not finite.
        StoppedBySignalError: if a signal stopped the training; its state is saved.
    """
    refuse_pruning(context, asked)
    with new_run(out, context.console):
        made = prune_run(context, LanguageModel.load(context.folder), asked)
        if made.retraining is None:
            return write_compressed(out, context, made.lm, made.record)
        write_unfinished(out, made.lm, made.record, made.retraining)
        training = retraining(context, asked.steps, asked.learning_rate)
        config = replace(context.config, model=made.lm.model.config, training=training)
        run_experiment("training", create_run(out, config, context.console, "--out"))
        written = read_compression(out)
        assert written is not None
        return written


def prune_run(context: Context, lm: LanguageModel, asked: Pruning) -> PrunedRun:
    """Prune a run's model; nothing is trained, and nothing is written.

    Args:
        context: the run.
        lm: its model; changed by masks.
        asked: what is asked for.

    Raises:
        ConfigError: for what contradicts itself, and too few texts.
        CompressionError: for what cannot go.
        TrainingError: if a loss is not finite.
    """
    refuse_pruning(context, asked)
    method: type[Pruner] = PRUNERS.load(asked.method)
    config, of = context.config, before(context, lm)
    refuse_adapted(context, lm)
    method.refuse(lm.model, asked.share, asked.settings)  # before texts are read
    with threads(config.training.threads):
        ids = calibration_of(context, asked.settings, lm.tokenizer)
        windows = windows_of(
            encoded_split(config.data, lm.tokenizer, "validation", context.console),
            config.model,
        )
        chosen = windows.fixed_subset(config.training.validation_windows)

        def loss(model: GenerativeModel, when: str) -> float:
            value = split_loss(model, windows, config.evaluation.batch_size, chosen).mean
            if not math.isfinite(value):
                what, advice = _LOSSES[when]
                raise TrainingError(f"the validation loss {what} is {value:g}: {advice}")
            return value

        first = loss(lm.model, "before")
        model, rising, pruned_loss = lm.model, None, None
        details: dict[str, Any] = {"share": asked.share}
        if asked.gradual:
            rising = _rising(model, asked)
        else:
            pruned = method.prune(model, asked.share, asked.settings, ids)
            model, details = pruned.model, details | dict(pruned.details)
            if asked.rewind is not None:
                _rewind(model, _snapshot(context, asked.rewind))
            pruned_loss = loss(model, "pruned")
    losses = Losses(first, pruned_loss, None if asked.steps else pruned_loss)
    record = Compression(
        "prune",
        asked.method,
        to_dict(asked.settings),
        of,
        _calibration(ids, asked, windows),
        details | {"losses": asdict(losses)},
    )
    rest = None
    if asked.steps:
        rest = Retraining(
            steps=asked.steps,
            learning_rate=retraining(context, asked.steps, asked.learning_rate).learning_rate,
            run_rate=run_rate(context),
            rising=rising,
            rewind=asked.rewind,
        )
    return PrunedRun(LanguageModel(model.eval(), lm.tokenizer, lm.source), losses, record, rest)


def _calibration(ids: Tensor | None, asked: Pruning, windows: Windows) -> dict[str, Any] | None:
    if ids is None:
        return None
    count, length = ids.shape
    seed, text = asked.settings.calibration_seed, windows.tokens.header.corpus
    return {"windows": count, "context_length": length, "seed": seed, "text": text}


def _rising(model: GenerativeModel, asked: Pruning) -> Rising:
    """Return how the share will rise."""
    method: type[Pruner] = PRUNERS.load(asked.method)
    assert issubclass(method, Masking) and asked.share is not None
    modules = targets(model, asked.settings.targets, method.kinds)
    return Rising(first=held_share(model, modules), last=last_rise(asked.steps))


def _snapshot(context: Context, step: int) -> Path:
    """Return the snapshot of a step after the first.

    Raises:
        ConfigError: if there is none, naming those that there are.
    """
    steps = {step_of(path): path for path in snapshots_of(context.folder)}
    later = [each for each in sorted(steps) if each > 0]
    if not later:
        raise ConfigError(
            f"--rewind {step}: {context.folder} has no snapshots of its training: train a run with "
            "-o training.snapshots=12"
        )
    if step not in later:
        raise ConfigError(
            f"--rewind {step}: there is no snapshot of that step after the first; there are: "
            + ", ".join(f"{each}" for each in later)
        )
    return steps[step]


@torch.no_grad()
def _rewind(model: GenerativeModel, snapshot: Path) -> None:
    """Give a masked model the weights of a snapshot; its masks stay."""
    masks = masks_of(model)
    earlier = load_checkpoint(snapshot).build_language_model()
    for name, parameter in earlier.named_parameters():
        model.get_parameter(name).copy_(parameter)
    hold(model, masks)
