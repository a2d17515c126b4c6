"""Pruning a run's model, and training what is left: at once, gradually, or from an earlier step.

One shot: prune, then train on. Gradual: the share of masked weights rises while it is trained,
along a cubic curve over the first two thirds of the steps. Rewinding (Frankle et al. 2020): the
masks are those of the trained weights, and training starts anew from the weights of a step soon
after the first, with a new optimizer and schedule; it needs the run's snapshots.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinylm.checkpoint import load_checkpoint, step_of
from tinylm.compression.masking import Masking, cubic_share, held_share, targets
from tinylm.compression.pruner import Pruner, refuse_share
from tinylm.config import TrainingConfig, from_dict, to_dict
from tinylm.config.pruning import Calibrated
from tinylm.data.windows import ShuffledOrder, TokenWindows
from tinylm.errors import ConfigError, TrainingError
from tinylm.evaluation.perplexity import split_loss
from tinylm.experiments.compressing import Compression, calibration_windows, read_compression
from tinylm.experiments.context import Context, threads
from tinylm.experiments.preparation import encoded_split
from tinylm.fast import remove
from tinylm.language_model import LanguageModel
from tinylm.model.base import GenerativeModel
from tinylm.model.masks import hold, masks_of
from tinylm.registry import PRUNERS
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.optimizers import set_learning_rate
from tinylm.training.schedules import learning_rate_factor
from tinylm.training.snapshots import snapshots_of
from tinylm.training.step import TrainingStep

_RISING = 2 / 3
"""Share of the steps over which gradual pruning prunes."""
_RISES = 20
"""Times that gradual pruning prunes, at most."""
_LOSSES = {
    "before": ("of the run", "its model is broken, train it again"),
    "pruned": ("after pruning", "prune less"),
    "after": ("after training what is left", "give a lower --learning-rate"),
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
    """Of these steps; None: the run's."""
    gradual: bool = False
    """Whether the share rises while it is trained."""
    rewind: int | None = None
    """The step whose weights training starts from; None: it goes on from those that are there."""


@dataclass(frozen=True)
class Losses:
    """Validation losses, in nats a token."""

    before: float
    pruned: float
    """With nothing trained; in gradual pruning, as it came out of the last rise."""
    after: float
    """After training; without any, that of ``pruned``."""


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
    if asked.gradual and asked.share is None:
        raise ConfigError("say how much goes: give --share, such as 0.5")
    if asked.gradual and bool(asked.settings.pattern):
        raise ConfigError("--gradual: a pattern has one share only: leave one of them out")
    if asked.gradual and asked.rewind is not None:
        raise ConfigError("--rewind needs the masks of trained weights: leave out --gradual")
    if asked.rewind is not None:
        _snapshot(context, asked.rewind)
    if asked.steps:
        retraining(context, asked.steps, asked.learning_rate)


def retraining(context: Context, steps: int, learning_rate: float | None = None) -> TrainingConfig:
    """Return how what is left is trained: as the run was, but for what is asked.

    Args:
        context: the run.
        steps: of the optimizer, one at least.
        learning_rate: empty: the run's.

    Raises:
        ConfigError: for a learning rate that cannot be.
    """
    training = to_dict(context.config.training)
    own = {
        "max_steps": steps,
        "warmup_steps": min(training["warmup_steps"], steps // 10),
    }
    if learning_rate is not None:
        own["learning_rate"] = learning_rate
    return from_dict(TrainingConfig, training | own, "--learning-rate")


@dataclass(frozen=True)
class PrunedRun:
    """What came of it."""

    lm: LanguageModel
    """Its source is still the run's checkpoint."""
    losses: Losses
    record: Compression
    """As ``compressing.write_compressed`` takes it."""


def prune_run(context: Context, lm: LanguageModel, asked: Pruning) -> PrunedRun:
    """Prune a run's model and train what is left; nothing is written.

    Args:
        context: the run.
        lm: its model; changed by masks.
        asked: what is asked for.

    Raises:
        ConfigError: for what contradicts itself, and too few texts.
        CompressionError: for what cannot go.
        TrainingError: if the loss is not finite.
    """
    refuse_pruning(context, asked)
    with threads(context.config.training.threads):
        return _Work(context, lm, asked).done()


class _Work:
    """One pruning: the texts that it needs, and its steps."""

    def __init__(self, context: Context, lm: LanguageModel, asked: Pruning) -> None:
        self.context = context
        self.lm = lm
        self.asked = asked
        self.method: type[Pruner] = PRUNERS.load(asked.method)
        settings, data = asked.settings, context.config.data
        reads = isinstance(settings, Calibrated) and settings.reads_texts
        self.ids: Tensor | None = None
        if reads:
            self.ids = calibration_windows(
                context, settings.windows, settings.calibration_seed, tokenizer=lm.tokenizer
            )
        self.train, self.validation = (
            TokenWindows(
                encoded_split(data, lm.tokenizer, split, context.console),
                context.config.model.context_length,
            )
            for split in ("train", "validation")
        )

    def done(self) -> PrunedRun:
        """Prune, train, and measure before and after."""
        asked, lm, model = self.asked, self.lm, self.lm.model
        before = self._loss(model)
        details: dict[str, Any] = {"share": asked.share}
        if asked.gradual:
            pruned_loss = self._gradually(model)
        else:
            pruned = self.method.prune(model, asked.share, asked.settings, self.ids)
            model, details = pruned.model, details | dict(pruned.details)
            if asked.rewind is not None:
                _rewind(model, _snapshot(self.context, asked.rewind))
            pruned_loss = self._loss(model)
            if asked.steps:
                self._train(model)
        losses = Losses(before, pruned_loss, self._loss(model) if asked.steps else pruned_loss)
        for when, (what, advice) in _LOSSES.items():
            if not math.isfinite(loss := getattr(losses, when)):
                raise TrainingError(f"the validation loss {what} is {loss:g}: {advice}")
        training = {
            "steps": asked.steps,
            "learning_rate": self._training().learning_rate if asked.steps else None,
            "gradual": asked.gradual,
            "rewind": asked.rewind,
        }
        record = Compression(
            "prune",
            asked.method,
            to_dict(asked.settings),
            self._calibration(),
            details | {"training": training, "losses": vars(losses)},
            asked.steps,
        )
        return PrunedRun(LanguageModel(model.eval(), lm.tokenizer, lm.source), losses, record)

    def _loss(self, model: GenerativeModel) -> float:
        config = self.context.config
        chosen = self.validation.fixed_subset(config.training.validation_windows)
        return split_loss(model, self.validation, config.evaluation.batch_size, chosen).mean

    def _calibration(self) -> dict[str, Any] | None:
        if self.ids is None:
            return None
        windows, length = self.ids.shape
        seed = self.asked.settings.calibration_seed
        text = self.train.tokens.header.corpus
        return {"windows": windows, "context_length": length, "seed": seed, "text": text}

    def _gradually(self, model: GenerativeModel) -> float:
        """Prune while training; return the loss as it was after the last rise."""
        method, asked, share = self.method, self.asked, self.asked.share
        assert issubclass(method, Masking) and share is not None
        modules = targets(model, asked.settings.targets, method.kinds)
        method.refuse_done(modules, model, share)
        first = held_share(model, modules)
        last = max(1, math.ceil(asked.steps * _RISING))
        rises = {round(last * i / _RISES) for i in range(1, _RISES + 1)}
        losses: list[float] = []

        def rise(step: int) -> None:
            if step in rises:
                now = cubic_share(step, last, share, first)
                hold(model, method.kept(model, modules, now, asked.settings, self.ids))
                if step == last:
                    losses.append(self._loss(model))

        self._train(model, rise)
        return losses[-1]

    def _training(self) -> TrainingConfig:
        return retraining(self.context, self.asked.steps, self.asked.learning_rate)

    def _train(
        self, model: GenerativeModel, before_step: Callable[[int], None] = lambda step: None
    ) -> None:
        train_on(self.context, model, self.train, self._training(), before_step)


def train_on(
    context: Context,
    model: GenerativeModel,
    windows: TokenWindows,
    config: TrainingConfig,
    before_step: Callable[[int], None] = lambda step: None,
) -> None:
    """Take optimizer steps, with a new optimizer and schedule.

    Args:
        context: the run, whose console is told.
        model: trained in place.
        windows: of the run's training split.
        config: as ``retraining`` returns it.
        before_step: called with the number of every step, and with that of all at the end.

    Raises:
        TrainingError: if the loss is not finite.
    """
    steps = config.max_steps
    assert steps is not None
    order = ShuffledOrder(len(windows), config.batch_size, config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        training = TrainingStep(model, next_token_loss, config, steps)
        with context.console.task("Training what is left", steps) as done:
            for step in range(steps):
                before_step(step)
                set_learning_rate(training.optimizer, learning_rate_factor(config, step, steps))
                chosen = [order.next() for _ in range(config.accumulation_steps)]
                result = training.backward([windows.batch(each) for each in chosen])
                if not (math.isfinite(result.loss) and math.isfinite(result.norm)):
                    raise TrainingError(
                        f"step {step + 1} after pruning: loss {result.loss:g}, gradient norm "
                        f"{result.norm:g}: give a lower --learning-rate"
                    )
                training.update()
                done(step + 1)
            before_step(steps)
    remove(model)


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
