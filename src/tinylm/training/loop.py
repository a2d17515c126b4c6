"""The training loop: shuffled examples of a task, one optimizer step after the other.

The loop knows a model, a task and checkpoints. Events go to a listener; the loop itself prints
nothing.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinylm.checkpoint import TrainingState, damage, newest, point
from tinylm.config import TrainingConfig
from tinylm.errors import CheckpointError, ConfigError, DataError, TrainingError, shown
from tinylm.fast import remove
from tinylm.perplexity import perplexity
from tinylm.reading import checked, refusal
from tinylm.training.commands import Commands
from tinylm.training.events import Listener, Outcome, StepRecord, ValidationRecord
from tinylm.training.interrupts import stop_on_signal
from tinylm.training.keeping import Folder, Keeper, OwnKeeper
from tinylm.training.lengths import total_steps
from tinylm.training.optimizers import same_state, set_learning_rate
from tinylm.training.precision import autocast
from tinylm.training.processes.group import ALONE, Processes, refuse_unshared
from tinylm.training.processes.keeping import SharedKeeper
from tinylm.training.processes.parts import own_part
from tinylm.training.schedules import learning_rate_factor
from tinylm.training.state import (
    StateNumbers,
    draw_apart,
    restore_tensors,
    state_tensors,
    task_tensors,
)
from tinylm.training.step import TrainingStep
from tinylm.training.task import Task, Trained

_MOST_WINDOWS_SHOWN = 64


class Trainer:
    """A model, its optimizer and its place in the data; ``run`` takes steps until the end."""

    def __init__(
        self,
        model: Trained,
        task: Task[Trained, Any],
        config: TrainingConfig,
        checkpoints: Path,
        listener: Listener,
        began: float | None = None,
        commands: Commands | None = None,
        begins_trained: bool = False,
        processes: Processes = ALONE,
    ) -> None:
        """Put the model on its device and prepare optimizer and data order.

        Args:
            model: trained in place.
            task: what it is trained on.
            config: all settings.
            checkpoints: the run's checkpoint folder.
            listener: receives the events.
            began: ``time.perf_counter()`` when the session began; empty: now.
            commands: what to do when training stops before its end, for the error.
            begins_trained: whether the weights are trained ones, so that they are the best while no
                step makes them better; they are saved before the first step then.
            processes: that train together, each with the same arguments; the first alone writes.

        Raises:
            ConfigError: if the device is not there, settings contradict each other, a step needs
                more memory than there is, or it cannot be shared out.
        """
        refuse_unshared(config.batch_size, len(task), processes)
        self.config = config
        self.processes = processes
        self.task: Task[Any, Any] = task
        task.processes = processes
        self.order = task.order(config.batch_size, config.seed)
        self.total_steps = total_steps(config, len(task))
        self.training_step = TrainingStep(
            model, task.loss, config, self.total_steps, task.beside, task.held, processes
        )
        draw_apart(processes, config.seed)
        if self.training_step.divides_layers:  # all must run the layers as often: none shares
            task.processes = ALONE
        if task.longest is not None:
            rows = min(config.batch_size // processes.size, len(task))
            self.training_step.refuse(rows, task.longest)
        self.device = self.training_step.device
        self.precision = self.training_step.precision
        self.model = self.training_step.model
        self.optimizer = self.training_step.optimizer
        self.checkpoints = checkpoints
        folder = Folder(checkpoints, config.keep_checkpoints, self._on_checkpoint)
        self.keeper: Keeper = OwnKeeper(folder)
        if processes.size > 1:
            self.keeper = SharedKeeper(folder, processes, not config.async_checkpoints)
        self.listener = listener
        self.commands = commands
        self.begins_trained = begins_trained
        self.step = 0
        self.tokens = 0
        self.seconds = 0.0
        self._began = time.perf_counter() if began is None else began
        self._earlier_sessions = 0.0
        self.best_loss = math.inf
        self.best_step = -1
        self.worse_validations = 0
        self.last_validated = -1
        self.last_saved = -1
        self._pending: dict[str, Any] = _nothing_pending()

    @property
    def epoch(self) -> float:
        """Epochs done, with a fraction."""
        return self.order.epoch + min(self.order.next_window, len(self.task)) / len(self.task)

    @property
    def session_seconds(self) -> float:
        """Seconds of all sessions up to now: validation, saving and lost steps included."""
        return self._earlier_sessions + time.perf_counter() - self._began

    def count_lost(self, seconds: float) -> None:
        """Count steps that an earlier session took and did not save."""
        self._earlier_sessions += seconds

    def run(self) -> Outcome:
        """Train to the end, an early stop or a signal; the last state is always saved.

        Afterwards the model's parts are plain ones.

        Raises:
            TrainingError: if a loss, the gradient or a weight is not finite; nothing is saved then.
            CheckpointError: if a checkpoint cannot be written.
        """
        self.listener.on_start(self.step, self.total_steps)
        self.training_step.install()
        try:
            reason = self._train()
        finally:
            remove(self.model)
        return Outcome(self.step, reason, self.best_loss, self.seconds, self.tokens)

    def _train(self) -> str:
        """Take all steps that are left; return why it ended, as ``Outcome.reason``."""
        reason = "finished"
        with stop_on_signal() as stop:
            if self.step == 0 and self.last_saved < 0:
                if self._may_be_best:
                    self._validate_and_keep_best()
                elif self._validates_evenly:
                    self._validate()
            while self.step < self.total_steps:
                if self._has_stopped_improving():  # here, so that a resumed run ends too
                    reason = "early-stop"
                    break
                if (why := self.task.stopped()) is not None:  # here for the same reason
                    reason = why
                    break
                epoch_ended = self._take_step()
                with self._telling_how_to_go_on():
                    self.keeper.poll()
                if self._validation_is_due(epoch_ended):
                    self._validate_and_keep_best()
                elif self._due(self.config.checkpoint_interval):
                    self._save()
                number = self.processes.most(stop.number)
                if number and not self._has_stopped_improving():
                    reason = signal.Signals(number).name
                    break
            if not reason.startswith("SIG") and self.last_validated != self.step:
                self._validate_and_keep_best()
            if self.last_saved != self.step:
                self._save()
            with self._telling_how_to_go_on():
                self.keeper.finish()
        return reason

    def _due(self, interval: int) -> bool:
        return bool(interval) and self.step % interval == 0

    def _has_stopped_improving(self) -> bool:
        return 0 < self.config.early_stop_patience <= self.worse_validations

    @property
    def _may_be_best(self) -> bool:
        """Whether the model as it is can be the best: an untrained one is never kept as that."""
        trained = self.step > 0 or self.begins_trained
        return trained and self.task.settled(self.step)

    @property
    def _validates_evenly(self) -> bool:
        return bool(self.config.validations) and not self.config.validation_interval

    def _validation_is_due(self, epoch_ended: bool) -> bool:
        if self.step == self.total_steps:
            return True
        if self.config.validation_interval:
            return self._due(self.config.validation_interval)
        if self._validates_evenly:
            before, now = (
                step * self.config.validations // self.total_steps
                for step in (self.step - 1, self.step)
            )
            return now > before
        return epoch_ended

    def _take_step(self) -> bool:
        """Take one optimizer step; return whether it was the last of its epoch."""
        started = time.perf_counter()
        factor = learning_rate_factor(self.config, self.step, self.total_steps)
        rate = set_learning_rate(self.optimizer, factor)
        indices = []
        for _ in range(self.config.accumulation_steps):
            indices.append(self.order.next())
            if self.order.epoch_ended:  # a step never mixes two epochs
                break
        rank, size = self.processes.rank, self.processes.size
        shares = [chosen[self.order.share(len(chosen), rank, size)] for chosen in indices]
        batches = [
            self.task.prepare(self.model, self.task.batch(own)) for own in shares if len(own)
        ]
        idle = []
        if self.training_step.divides_layers:  # who has no rows runs one all the same
            pairs = zip(indices, shares, strict=True)
            idle = [self.task.batch(whole[:1]) for whole, own in pairs if not len(own)]
        gradients = self.training_step.backward(batches, idle)
        loss, num_targets, norm = gradients.loss, gradients.num_targets, gradients.norm
        if not (math.isfinite(loss) and math.isfinite(norm)):
            windows = [str(i) for chosen in indices for i in chosen]
            shown = ", ".join(windows[:_MOST_WINDOWS_SHOWN])
            shown += ", …" if len(windows) > _MOST_WINDOWS_SHOWN else ""
            mean = loss / max(1, num_targets)
            self._refuse(
                f"step {self.step + 1}: loss {mean:g}, gradient norm {norm:g} (windows {shown})"
            )
        self.training_step.update()
        self.step += 1
        self.task.after_step(self.model, self.step)
        self.tokens += num_targets
        seconds = time.perf_counter() - started
        self.seconds += seconds
        pending = self._pending
        pending["loss"] += loss
        pending["targets"] += num_targets
        pending["norm"] += norm
        pending["steps"] += 1
        pending["seconds"] += seconds
        measures = self.task.measures()
        for name, value in measures.items():
            pending["measures"][name] = pending["measures"].get(name, 0.0) + value
        self.listener.on_measures(measures)
        self.listener.on_step(self.step, loss / max(1, num_targets), num_targets / seconds)
        if self._due(self.config.log_interval) or self.step == self.total_steps:
            self._log(rate)
        return self.order.epoch_ended

    def _refuse(self, problem: str) -> None:
        good = str(newest(self.checkpoints) or "none")
        if self.last_saved == self.step:
            good += " (delete it if going on from it fails at once)"
        advice = f"; {self.commands.lower_rate}" if self.commands else ""
        raise TrainingError(f"{problem}; last good checkpoint: {good}{advice}")

    def _log(self, rate: float) -> None:
        pending = self._pending
        loss = pending["loss"] / max(1, pending["targets"])
        record = StepRecord(
            step=self.step,
            epoch=self.epoch,
            tokens=self.tokens,
            loss=loss,
            perplexity=perplexity(loss) if self.task.in_nats else None,
            learning_rate=rate,
            gradient_norm=pending["norm"] / pending["steps"],
            tokens_per_second=pending["targets"] / pending["seconds"],
            seconds=self.seconds,
            measures={
                name: total / pending["steps"] for name, total in pending["measures"].items()
            },
        )
        self._pending = _nothing_pending()
        self.listener.on_log(record)

    def _validate(self) -> bool:
        """Validate, report it to the listener, and return whether the loss is the best so far.

        Nothing is kept of the untrained model: it is measured again by a run that starts anew.
        """
        loss = self.validation_loss()
        if not math.isfinite(loss):
            problem = f"step {self.step}: validation loss {loss:g}"
            if self.step == 0:  # no rate is the cause
                raise TrainingError(
                    f"{problem} before anything was trained: look at the settings, and at the "
                    "weights that it begins with"
                )
            self._refuse(problem)
        with autocast(self.precision, self.device):
            seen = self.task.training_loss(self.model)
        counts = self._may_be_best
        better = counts and loss < self.best_loss
        record = ValidationRecord(
            step=self.step,
            epoch=self.epoch,
            tokens=self.tokens,
            loss=loss,
            perplexity=perplexity(loss) if self.task.in_nats else None,
            seconds=self.seconds,
            training_loss=seen,
            training_perplexity=None if seen is None else perplexity(seen),
            measures=self.task.held_out_measures(),
        )
        if self.step > 0:
            self.last_validated = self.step
        if counts:
            self.worse_validations = 0 if better else self.worse_validations + 1
        if better:
            self.best_loss = loss
            self.best_step = self.step
        self.listener.on_validation(record, better)
        return better

    def validation_loss(self) -> float:
        """Measure the model as it is, in the number format that it is trained in."""
        self.model.eval()
        with autocast(self.precision, self.device):
            return self.task.validate(self.model)

    def _validate_and_keep_best(self) -> None:
        self._save(best=self._validate())

    def _on_checkpoint(self, path: Path) -> None:
        self.listener.on_checkpoint(path)

    def _save(self, best: bool = False) -> None:
        state = self.state()
        named = [*self.training_step.trained.named_parameters(), *state.tensors.items()]
        for name, tensor in named:
            if (
                not own_part(tensor).isfinite().all()
            ):  # a step can overflow after a finite loss and gradient
                self._refuse(f"step {self.step}: {name} is not finite any more")
        self.listener.on_saving(self.step)
        with self._telling_how_to_go_on():
            self.keeper.save(self.model, self.task.tokenizer, state, best)
        self.last_saved = self.step

    @contextmanager
    def _telling_how_to_go_on(self) -> Iterator[None]:
        try:
            yield
        except CheckpointError as error:
            if self.commands is None:
                raise
            raise CheckpointError(f"{error}; then go on: {self.commands.go_on}") from error

    def state(self) -> TrainingState:
        """Return everything that the steps to come depend on, weights left out."""
        numbers: dict[str, Any] = {
            "corpus": self.task.source,
            "optimizer": self.config.optimizer,
            "order": self.order.state(),
            "tokens": self.tokens,
            "seconds": self.seconds,
            "session_seconds": self.session_seconds,
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "best_step": self.best_step,
            "worse_validations": self.worse_validations,
            "last_validated": self.last_validated,
            "pending": self._pending,
        }
        if own := self.task.state():
            numbers["task"] = own
        tensors = state_tensors(self.training_step, self.task.beside, self.task.tensors())
        return TrainingState(self.step, numbers, tensors)

    def restore(self, state: TrainingState) -> None:
        """Resume from a state; the model's weights must be those saved with it.

        Raises:
            CheckpointError: if it cannot be the state of such a training.
            DataError: if the training text is another one.
            ConfigError: if the optimizer is of another kind, so that its state cannot be used, or
                more steps are done than there are to be. Nothing on disk has changed then.
        """
        source = f"{self.checkpoints}/step-{state.step}: training state"
        refuse = refusal(source, CheckpointError, "go on from an earlier step, or train anew")
        numbers = checked(StateNumbers, state.numbers, refuse)
        if numbers["corpus"] != self.task.source:
            raise DataError(
                f"{self.checkpoints}: the run was trained on corpus {numbers['corpus']}, the data "
                f"now is {self.task.source}: put the old text back, or train a new run"
            )
        if not same_state(numbers["optimizer"], self.config.optimizer):
            raise ConfigError(
                f"training.optimizer = {shown(self.config.optimizer)}: the run was trained with "
                f"{shown(numbers['optimizer'])}, whose state it cannot use; go on with that one"
            )
        if state.step > self.total_steps:
            name = "max_steps" if self.config.max_steps else "epochs"
            raise ConfigError(
                f"training.{name} = {getattr(self.config, name)} makes {self.total_steps:,} steps, "
                f"and {state.step:,} are done already: set more, or train a new run"
            )
        if state.step and not numbers["seconds"]:
            raise refuse("seconds = 0 after the first step")
        self.step = self.last_saved = state.step
        self.order.restore(state.numbers["order"])
        self.task.restore(numbers.get("task", {}), task_tensors(state.tensors))
        self.tokens = numbers["tokens"]
        self.seconds = numbers["seconds"]
        self._earlier_sessions = numbers.get("session_seconds", numbers["seconds"])
        self.best_loss = math.inf if numbers["best_loss"] is None else numbers["best_loss"]
        self.best_step = numbers["best_step"]
        self.worse_validations = numbers["worse_validations"]
        self.last_validated = numbers["last_validated"]
        self._pending = _nothing_pending() | state.numbers["pending"]
        draw_apart(self.processes, self.config.seed, state.step)
        restore_tensors(self.training_step, self.task.beside, state.tensors, refuse)
        self._point_anew()

    def _point_anew(self) -> None:
        """Point the links ``last`` and ``best`` at the checkpoints that the state names.

        The training may have died between saving a checkpoint and pointing at it, or a later one
        may have been damaged. If the best one itself is damaged, the best of the validations from
        here on takes its place.
        """
        best = self.checkpoints / f"step-{self.best_step}"
        writes = self.processes.rank == 0
        if writes:
            point(self.checkpoints, "last", self.checkpoints / f"step-{self.step}")
        if self.best_step < 0:
            return
        if damage(best) is None:
            if writes:
                point(self.checkpoints, "best", best)
        else:
            self.best_loss, self.best_step, self.last_validated = math.inf, -1, -1


def _nothing_pending() -> dict[str, Any]:
    """Return the sums since the last logged line, of no step."""
    return {
        "loss": 0.0,
        "targets": 0,
        "norm": 0.0,
        "steps": 0,
        "seconds": 0.0,
        "measures": {},
    }
