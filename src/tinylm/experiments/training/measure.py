"""The training experiment: a model trained from a run's configuration, measured as it learns."""

from __future__ import annotations

import math
import shlex
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.checkpoint import (
    TrainingState,
    by_step,
    clear_unfinished,
    damage,
    load_checkpoint,
    load_training_state,
    newest_undamaged,
    set_aside_after,
)
from tinylm.checkpoint.writing import to_single_files
from tinylm.config import load_config, to_dict
from tinylm.data.token_files import TokenFile
from tinylm.data.windows import Windows, windows_of
from tinylm.errors import ConfigError, TinylmError, shown
from tinylm.evaluation.perplexity import BLOCKS
from tinylm.experiments.compressing import refuse_training
from tinylm.experiments.context import (
    Console,
    Context,
    keep_configuration,
    tell_left_out,
    threads,
)
from tinylm.experiments.courses import Course
from tinylm.experiments.distilling import lessons_of
from tinylm.experiments.preparation import (
    PreparedData,
    check_same_tokenizer,
    prepare_data,
    start_model,
)
from tinylm.experiments.retraining import retraining_of
from tinylm.experiments.starts import started
from tinylm.experiments.training.sharing import refuse_sharing, settings_of_all
from tinylm.measurement import Replicates, mean_replicates, paired, unpaired
from tinylm.model.base import GenerativeModel
from tinylm.model.weights import load_weights
from tinylm.perplexity import perplexity
from tinylm.tasks.language_modelling import LanguageModelling
from tinylm.training.commands import Commands, lower
from tinylm.training.events import Listener, Outcome
from tinylm.training.lengths import steps_per_epoch, total_steps
from tinylm.training.loop import Trainer
from tinylm.training.processes.joining import refuse_disagreement
from tinylm.training.snapshots import Snapshots, snapshot_steps
from tinylm.training.tracking import TrackedListener, Tracker, read_metrics

_FEW_STEPS = 200
"""Optimizer steps below which a text makes few of the epochs that were asked for."""
_DIGITS = 4
"""Decimals of a block's loss, in nats, that are kept."""


class StoppedBySignalError(TinylmError):
    """Training was asked to stop by a signal; the run can be resumed."""

    def __init__(self, outcome: Outcome, command: str) -> None:
        """Say how it ended, and the command that goes on with it."""
        self.outcome = outcome
        # As shells report a process that the signal ended: 130 for Ctrl-C, 143 for SIGTERM.
        self.exit_status = 128 + signal.Signals[outcome.reason]
        super().__init__(
            f"stopped by {outcome.reason} after step {outcome.step}, saved; go on: {command}"
        )


class _Tracked(TrackedListener):
    """Has snapshots taken, and writes the losses of blocks of windows beside a validation."""

    def __init__(
        self, listener: Listener, tracker: Tracker, task: LanguageModelling, snapshots: Snapshots
    ) -> None:
        super().__init__(listener, tracker)
        self.task = task
        self.snapshots = snapshots

    def on_start(self, step: int, total_steps: int) -> None:
        self.snapshots.take(step)
        super().on_start(step, total_steps)

    def on_step(self, step: int, loss: float, tokens_per_second: float) -> None:
        self.snapshots.take(step)
        super().on_step(step, loss, tokens_per_second)

    def more(self) -> dict[str, Any]:
        named = {"block_losses": "validation", "training_block_losses": "training"}
        return {
            name: [round(total, _DIGITS) for total, _ in self.task.losses[split].blocks(BLOCKS)]
            for name, split in named.items()
        }


def run(context: Context) -> dict[str, Any]:
    """Train, or go on training, the model of a run.

    Raises:
        StoppedBySignalError: if a signal stopped it; its state is saved.
        TrainingError: if the loss is not finite.
        CheckpointError: if a checkpoint cannot be written.
        ConfigError: if the run is a compressed one.
    """
    began = time.perf_counter()
    config = context.config
    refuse_training(context.folder)
    data = prepare_data(config, context.console)
    refuse_disagreement(context.processes, settings_of_all(config, data))
    for tokens in (data.train, data.validation):
        context.console.note(describe_split(tokens))
    with threads(config.training.threads):
        course = (
            lessons_of(context, data)
            or retraining_of(context, data)
            or Course(train=data.train, carry_state=config.training.carry_state)
        )
        path, state = resume_point(context.folder / "checkpoints", context.console)
        if course.has_start:
            model = started(context, data, path)
        else:
            model = start_model(config, data, context.console)
        parts = model.parameter_counts()
        context.console.note(
            "parameters: " + ", ".join(f"{part} {count:,}" for part, count in parts.items())
        )
        return _train(context, data, model, course, path, state, began)


def describe_split(tokens: TokenFile) -> str:
    """Return a line on the size of a split and on how much of it is ``<unk>``."""
    header = tokens.header
    return (
        f"{header.split}: {header.num_stories:,} {header.nouns}, {header.num_tokens:,} tokens, "
        f"<unk> {100 * header.unknown_rate:.2f} %"
    )


def resume_point(checkpoints: Path, console: Console) -> tuple[Path | None, TrainingState | None]:
    """Return the newest whole checkpoint and its state, if there is one; nothing is changed."""
    path, warnings = newest_undamaged(checkpoints)
    for warning in warnings:
        console.warn(warning)
    if path is None:
        if warnings:
            console.warn("no checkpoint is whole: training starts from the beginning")
        return None, None
    state = load_training_state(path)
    best = state.numbers.get("best_step", -1)
    problem = damage(checkpoints / f"step-{best}") if best != -1 else None
    if problem is not None:
        console.warn(
            f"the best checkpoint, step-{best}, is damaged ({problem}): the best one is looked for "
            f"from step {state.step:,} on"
        )
    return path, state


def go_back(checkpoints: Path, state: TrainingState | None) -> None:
    """Make a folder of checkpoints ready for those after the point that training goes on from.

    What killed processes left is deleted; later checkpoints, which are damaged, are set aside.
    """
    clear_unfinished(checkpoints)
    set_aside_after(checkpoints, 0 if state is None else state.step)


def _train(
    context: Context,
    data: PreparedData,
    model: GenerativeModel,
    course: Course,
    path: Path | None,
    state: TrainingState | None,
    began: float,
) -> dict[str, Any]:
    """Train a model from the beginning, or from a checkpoint and its state; all must be whole."""
    config = context.config
    checkpoints = context.folder / "checkpoints"
    learn_source, view = config.training.learn_source, config.training.view
    windows = windows_of(course.train, config.model, learn_source=learn_source, view=view)
    _warn_of_few_steps(context, len(windows))
    validation = windows_of(data.validation, config.model)
    for split in (windows, validation):
        tell_left_out(context.console, split)
    subset = validation.fixed_subset(config.training.validation_windows)
    batch_size = config.evaluation.batch_size
    task = course.task(data.tokenizer, windows, validation, batch_size, subset)
    if context.processes.size > 1:
        refuse_sharing(task)
    weights = {
        "block_losses": block_targets(validation, subset),
        "training_block_losses": block_targets(windows.judged, task.sample),
    }
    commands = context.commands or _commands(context)
    # All is asked for that could be refused before anything is written.
    if path is not None and state is not None:
        _refuse_changed(context)
        kept = load_checkpoint(path)
        check_same_tokenizer(kept.tokenizer, data, path)
        load_weights(model, kept.weights, path)
    with context.console.training() as listener:
        trainer = Trainer(
            *(model, task, config.training, checkpoints, listener, began, commands),
            begins_trained=course.has_start,
            processes=context.processes,
        )
        if state is not None:
            trainer.restore(state)
            if trainer.step == trainer.total_steps:
                _refuse_without_steps(context, trainer.step)
        if context.processes.rank:  # the first one writes, and shows
            outcome = trainer.run()
            if outcome.reason.startswith("SIG"):
                raise StoppedBySignalError(outcome, commands.go_on)
            return {}
        snapshots = Snapshots(
            context.folder / "snapshots",
            snapshot_steps(config.training.snapshots, trainer.total_steps),
            model,
            data.tokenizer,
            commands.go_on,
        )
        if snapshots.steps:
            context.console.note(snapshots.told())
        trainer.count_lost(_lost_seconds(context.folder, state))
        # Without a state nothing before the first step counts either.
        tracker = Tracker(
            context.folder, config.training, -1 if state is None else state.step, commands.go_on
        )
        try:
            keep_configuration(context)
            go_back(checkpoints, state)
            snapshots.go_back(-1 if state is None else state.step)
            if state is not None and _lines_are_lost(context.folder, trainer, state):
                context.console.warn(
                    f"{context.folder}/metrics.jsonl lacks lines of steps that are done: curves "
                    "show those that are there"
                )
                trainer.last_validated = -1  # so that the last step has a line at least
            trainer.listener = _Tracked(listener, tracker, task, snapshots)
            outcome = trainer.run()
        finally:
            tracker.close()
    if outcome.reason.startswith("SIG"):
        raise StoppedBySignalError(outcome, commands.go_on)

    for each in by_step(checkpoints):
        to_single_files(each)
    course.finish(task, outcome.step)
    records = read_metrics(context.folder)
    curve = [record for record in records if record["kind"] == "train"]
    validations = [record for record in records if record["kind"] == "validation"]
    best = [record for record in validations if record["step"] == trainer.best_step]
    return {
        "parameters": model.parameter_counts(),
        "parameters_trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "steps": outcome.step,
        "epochs": trainer.epoch,
        "tokens_seen": outcome.tokens,
        "seconds": trainer.session_seconds,
        "seconds_training": outcome.seconds,
        "tokens_per_second": outcome.tokens / outcome.seconds,
        "windows_per_epoch": len(windows),
        "unit": data.train.header.noun,
        "tokens_per_step": round(
            config.training.batch_size * config.training.accumulation_steps * windows.targets_each
        ),
        "precision": trainer.precision,
        "stopped_early": outcome.reason == "early-stop",
        "curve": curve,
        "validations": [
            {"training_loss": None, "training_perplexity": None}
            | {key: value for key, value in record.items() if not isinstance(value, list)}
            for record in validations
        ],
        "changes": changes(validations, best[0] if best else {}, weights),
        "validation_windows": len(validation) if subset is None else len(subset),
        "validation_split_windows": len(validation),
        "best": {
            "step": trainer.best_step,
            "loss": trainer.best_loss,
            "perplexity": perplexity(trainer.best_loss),
        },
        "uniform_perplexity": float(config.model.resolved_vocab_size),
        "unigram_perplexity": unigram_perplexity(data.train, data.validation),
    }


def _warn_of_few_steps(context: Context, num_windows: int) -> None:
    """Say so where a small text makes few steps of the epochs that are asked for."""
    training = context.config.training
    steps, an_epoch = total_steps(training, num_windows), steps_per_epoch(training, num_windows)
    if training.max_steps is None and steps < _FEW_STEPS:
        epochs = math.ceil(_FEW_STEPS / an_epoch)
        context.warn_once(
            f"training.epochs = {training.epochs} are {steps} steps on this text, few to learn in: "
            f"-o training.epochs={epochs} takes {epochs * an_epoch}"
        )


def _commands(context: Context) -> Commands:
    """Return what to type when the training of a run stops before its end."""
    words = ["tinylm", "train", "--resume", str(context.folder)]
    if context.processes.size > 1:
        words += ["--processes", str(context.processes.size)]
    resume = shlex.join(words)
    return Commands(
        resume,
        f"go on with a lower rate: {resume} -o training.learning_rate="
        f"{lower(context.config.training.learning_rate)}; training.gradient_clip, "
        "training.warmup_steps and training.precision=fp32 can help too",
    )


def _refuse_changed(context: Context) -> None:
    """Refuse settings that decide what is done already, or what losses compare with.

    Raises:
        ConfigError: naming the first that has changed.
    """
    file = context.folder / "config.yaml"
    if not file.exists():
        return
    before, now = load_config(file).training, context.config.training
    for name in ("seed", "validation_windows"):
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            raise ConfigError(
                f"training.{name} = {new}: it cannot change once training has begun ({old}); leave "
                "it, or train a new run"
            )


def _refuse_without_steps(context: Context, steps: int) -> None:
    """Refuse settings of a training that has no step left to take with them.

    Raises:
        ConfigError: naming the first that has changed.
    """
    file = context.folder / "config.yaml"
    if not file.exists():
        return
    before, now = (to_dict(config.training) for config in (load_config(file), context.config))
    for key, value in now.items():
        if value != before[key]:
            raise ConfigError(
                f"training.{key} = {shown(value)}: all {steps:,} steps are taken with "
                f"{shown(before[key])}; leave it out, or give more steps (training.max_steps or "
                "training.epochs)"
            )


def _lines_are_lost(folder: Path, trainer: Trainer, state: TrainingState) -> bool:
    """Tell whether metrics.jsonl lacks the last lines before the state that training goes on from.

    The steps since the last line of training are pending in the state.
    """
    lines = {(record["kind"], record["step"]) for record in read_metrics(folder)}
    logged = state.step - state.numbers["pending"]["steps"]
    wanted = {("train", logged), ("validation", state.numbers["last_validated"])}
    return any(step > 0 and (kind, step) not in lines for kind, step in wanted)


def block_targets(split: Windows, chosen: Sequence[int] | None) -> list[int]:
    """Return the tokens of each block of windows, of all or of those chosen."""
    indices = range(len(split)) if chosen is None else chosen
    parts = np.array_split(indices, min(BLOCKS, len(indices)))
    return [split.num_targets(part) for part in parts]


def _lost_seconds(folder: Path, state: TrainingState | None) -> float:
    """Return the seconds of logged steps behind the state that training goes on from."""
    logged = [record["seconds"] for record in read_metrics(folder) if record["kind"] == "train"]
    saved = 0.0 if state is None else state.numbers["seconds"]
    return max(0.0, logged[-1] - saved) if logged else 0.0


def changes(
    validations: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
    weights: Mapping[str, Sequence[int]],
) -> dict[str, list[float | None] | None]:
    """Return how the losses changed, in nats a token, each with its interval over the blocks.

    Args:
        validations: records of metrics.jsonl, with the summed loss of every block of windows.
        best: the one with the least loss; empty where its line is lost.
        weights: the tokens of every block, under the names of the losses.

    Returns:
        ``first_to_best``, ``best_to_last``, ``previous_to_last`` and ``training_to_validation``
        (at the last validation), ``training_best_to_last`` (on training stories, while validation
        went from its best to the last), and ``best``, the loss itself. None where it was not
        measured, such as in a run that an older version began.
    """

    def loss(record: Mapping[str, Any], name: str = "block_losses") -> Replicates | None:
        return blocks_loss(record.get(name), weights[name])

    first, last = validations[0], validations[-1]
    previous = validations[max(0, len(validations) - 2)]
    own, seen = loss(last), loss(last, "training_block_losses")
    least = loss(best)
    learned = loss(best, "training_block_losses")
    return {
        "first_to_best": more(least, loss(first)),
        "best_to_last": more(own, least),
        "previous_to_last": more(own, loss(previous)),
        "training_to_validation": None
        if own is None or seen is None
        else unpaired(own, seen).as_result(),
        "training_best_to_last": more(seen, learned),
        "best": None if least is None else least.interval.as_result(),
    }


def blocks_loss(sums: Sequence[float] | None, targets: Sequence[int]) -> Replicates | None:
    """Return the mean loss of blocks of windows; None where it was not measured by these blocks."""
    if sums is None or len(sums) != len(targets):
        return None
    return mean_replicates(sums, targets)


def more(first: Replicates | None, second: Replicates | None) -> list[float | None] | None:
    """Return how much more the first loss is than the second on the same blocks, as a result."""
    return None if first is None or second is None else paired(first, second).as_result()


def unigram_perplexity(train: TokenFile, validation: TokenFile) -> float:
    """Return the validation perplexity of word frequencies alone: what context must beat.

    Frequencies are those of the train split with one added to each (Laplace).
    """
    seen = validation.counts()
    counts = train.counts(len(seen)) + 1
    seen = np.pad(seen, (0, len(counts) - len(seen)))
    log_probability = np.log(counts / counts.sum())
    return math.exp(-float((seen * log_probability).sum()) / int(seen.sum()))
