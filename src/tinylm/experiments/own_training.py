"""A training in a folder that is no run yet: by a recipe, with checkpoints of the whole model.

The recipe says what the training follows from. The same recipe goes on from the last checkpoint,
bit for bit; another one is refused. In the end the model is what its best checkpoint says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm import folders
from tinylm.atomic import write_text
from tinylm.checkpoint import load_checkpoint, step_of
from tinylm.config import TrainingConfig, from_dict, to_dict
from tinylm.errors import AlignmentError, ConfigError
from tinylm.experiments.context import Console
from tinylm.experiments.recipes import difference
from tinylm.experiments.training.measure import StoppedBySignalError, go_back, resume_point
from tinylm.locks import locked
from tinylm.model.weights import load_weights
from tinylm.reading import read_signed, signed
from tinylm.training.commands import Commands
from tinylm.training.events import Listener
from tinylm.training.loop import Trainer
from tinylm.training.task import Task, Trained
from tinylm.training.tracking import TrackedListener, Tracker

_USUAL = {
    "precision": "fp32",
    "schedule": "constant",
    "warmup_steps": 0,
    "accumulation_steps": 1,
    "validation_interval": 0,
    "validations": 10,
    "early_stop_patience": 0,
    "checkpoint_interval": 20,
    "log_interval": 1,
    "snapshots": 0,
    "tensorboard": False,
    "wandb": False,
}
"""Settings of a short training that goes on with trained weights."""
_DIGITS = 6
"""Of what is measured of a text."""


def training_settings(
    own: TrainingConfig, usual: Mapping[str, Any], given: Mapping[str, Any]
) -> TrainingConfig:
    """Return the settings of such a training.

    Args:
        own: how the run was trained; threads, device and the optimizer's settings are kept.
        usual: what the training has where nothing is asked for.
        given: what is asked for; a setting that is None is not.

    Raises:
        ConfigError: for a value that cannot be.
    """
    wanted = {name: value for name, value in given.items() if value is not None}
    return from_dict(TrainingConfig, {**to_dict(own), **_USUAL, **usual, **wanted}, "options")


def refuse_other_recipe(path: Path, kind: type[Any], recipe: Mapping[str, Any]) -> None:
    """Refuse to go on with what was begun with another recipe than is asked for now.

    Args:
        path: of the recipe that was written down, in the folder of what it makes.
        kind: what the file must hold.
        recipe: as it would be written now.

    Raises:
        ConfigError: naming what differs first.
        AlignmentError: if the file is damaged.
    """
    written = read_signed(path, kind, AlignmentError, "delete the folder and begin again")
    different = difference(written, recipe, {})
    if different is not None:
        raise ConfigError(
            f"{path.parent} holds what was begun with another {different}: give --out another "
            "folder, or delete that one"
        )


@dataclass(frozen=True)
class Place:
    """Where a training stands while it is not over."""

    out: Path
    """The folder; metrics.jsonl is written there."""
    recipe: str
    """Name of the file of the recipe."""
    checkpoints: str
    """Name of the folder of checkpoints."""
    finished: str = "config.yaml"
    """Name of the file that is written last, when the work is done."""

    def clear_finished(self, console: Console) -> None:
        """Delete what a command left that was killed after its work was done.

        Raises:
            LockedError: if another process writes there.
        """
        if not (self.out / self.finished).exists():
            return
        with locked(self.out, console.warn):
            self.clear()

    def clear(self) -> None:
        """Delete checkpoints and recipe."""
        if (self.out / self.checkpoints).exists():
            folders.remove(self.out / self.checkpoints)
        (self.out / self.recipe).unlink(missing_ok=True)

    def has_begun(self, kind: type[Any], recipe: Mapping[str, Any]) -> bool:
        """Whether a training by the same recipe has begun there.

        Args:
            kind: what the file of the recipe must hold.
            recipe: as it would be written now.

        Raises:
            ConfigError: if one by another has.
            AlignmentError: if the file is damaged.
        """
        path = self.out / self.recipe
        if not path.exists() or not any((self.out / self.checkpoints).glob("step-*")):
            return False
        refuse_other_recipe(path, kind, recipe)
        return True


class _Tracked(TrackedListener):
    """Writes what is measured of each text beside a validation."""

    def __init__(self, listener: Listener, tracker: Tracker, task: Task[Any, Any]) -> None:
        super().__init__(listener, tracker)
        self.task = task

    def more(self) -> dict[str, Any]:
        texts = {
            name: [round(value, _DIGITS) for value in values]
            for name, values in self.task.held_out_texts().items()
        }
        return {"texts": texts} if texts else {}


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    steps: int
    best_step: int
    stopped: str | None
    """Why the task stopped it before its end, or None."""
    best_loss: float
    """On what is held out."""


def train_to_best(
    place: Place,
    model: Trained,
    task: Task[Trained, Any],
    training: TrainingConfig,
    recipe: Mapping[str, Any],
    goes_on: bool,
    console: Console,
    commands: Commands,
) -> Outcome:
    """Train a model by a task; it has the weights of the best checkpoint then, and is in eval mode.

    Args:
        place: where.
        model: that it begins with, trained before; it counts as the best while no step makes it
            better.
        task: what is learned.
        training: all settings.
        recipe: what it follows from, which is written down before the first step.
        goes_on: whether it has begun (``Place.has_begun``).
        console: who watches.
        commands: what to type when it stops before its end.

    Raises:
        StoppedBySignalError: if a signal stopped it; its state is saved.
        TrainingError: if the loss is not finite.
        CheckpointError: if a checkpoint cannot be written.
    """
    checkpoints = place.out / place.checkpoints
    path, state = resume_point(checkpoints, console) if goes_on else (None, None)
    with console.training() as listener:
        trainer = Trainer(
            *(model, task, training, checkpoints, listener),
            commands=commands,
            begins_trained=True,
        )
        if path is not None and state is not None:
            load_weights(model, load_checkpoint(path).weights, path)
            trainer.restore(state)
        write_text(place.out / place.recipe, json.dumps(signed(recipe), indent=1))
        go_back(checkpoints, state)
        step = -1 if state is None else state.step
        tracker = Tracker(place.out, training, step, commands.go_on)
        try:
            trainer.listener = _Tracked(listener, tracker, task)
            outcome = trainer.run()
        finally:
            tracker.close()
    if outcome.reason.startswith("SIG"):
        raise StoppedBySignalError(outcome, commands.go_on)
    if (why := task.stopped()) is not None:
        console.warn(f"stopped after step {outcome.step:,}: {why}")
    best = load_checkpoint(checkpoints / "best")
    load_weights(model, best.weights, best.path)
    model.eval()
    if step_of(best.path) == 0:
        console.warn(
            f"no validation in {outcome.step:,} steps was better than the start, which is kept: "
            "take more steps, or another learning rate"
        )
    return Outcome(outcome.step, step_of(best.path), why, outcome.best_loss)
