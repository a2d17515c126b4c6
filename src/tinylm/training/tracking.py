"""Where a run's numbers go: metrics.jsonl always, TensorBoard and Weights & Biases if asked."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from tinylm import folders
from tinylm.atomic import write_text
from tinylm.config import TrainingConfig
from tinylm.errors import ConfigError, DataError, TrainingError
from tinylm.reading import CHECKSUM, checked, parse_json, refusal, signed, verified
from tinylm.training.events import Listener, StepRecord, ValidationRecord, as_line

_MOST_BYTES = 1 << 16  # of a line


class Tracker:
    """Writes each record to every chosen place; a record is flat and has a ``step``."""

    def __init__(
        self, folder: Path, config: TrainingConfig, resumed_step: int, go_on: str = ""
    ) -> None:
        """Open the places, and drop records after the step from which training resumes.

        Args:
            folder: of the run.
            config: says which places.
            resumed_step: the step.
            go_on: the command that goes on after an error, for its message.

        Raises:
            ConfigError: if wandb is asked for and not installed.
            DataError: if metrics.jsonl is damaged.
        """
        if config.wandb:
            try:
                import wandb
            except ImportError:
                raise ConfigError(
                    "training.wandb is true but wandb is not installed: pip install 'tinylm[wandb]'"
                ) from None
        folders.make(folder)
        self._folder = folder
        self._go_on = go_on
        self._path = folder / "metrics.jsonl"
        _drop_after(self._path, resumed_step)
        self._file = self._path.open("a", encoding="utf-8")
        self._board: Any = None
        self._hook = threading.excepthook
        self._wandb: Any = None
        if config.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_step + 1)
            threading.excepthook = self._said_once
        if config.wandb:
            self._wandb = wandb.init(
                project="tinylm", name=folder.name, id=folder.name, resume="allow", dir=str(folder)
            )

    def write(self, kind: str, record: dict[str, Any]) -> None:
        """Log one record.

        Args:
            kind: train or validation.
            record: flat but for ``measures``, with a ``step``; a list is kept in metrics.jsonl
                alone.

        Raises:
            TrainingError: if it cannot be written (disk full).
        """
        flat = {**record, **record.get("measures", {})}
        numbers = {
            f"{kind}/{key}": value
            for key, value in flat.items()
            if key != "step" and not isinstance(value, list | dict)
        }
        try:
            self._file.write(_line({"kind": kind, **record}))
            self._file.flush()
            if self._board is not None:
                for name, value in numbers.items():
                    self._board.add_scalar(name, value, record["step"])
        except OSError as error:
            raise self._unwritable(error) from error
        if self._wandb is not None:
            self._wandb.log(numbers, step=record["step"])

    def sync(self) -> None:
        """Wait until metrics.jsonl is on the disk.

        Raises:
            TrainingError: if it cannot be.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def close(self) -> None:
        """Close every place.

        Raises:
            TrainingError: if what is left cannot be written (disk full).
        """
        try:
            self._file.close()
            if self._board is not None:
                self._board.close()
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            if self._board is not None:
                threading.excepthook = self._hook
        if self._wandb is not None:
            self._wandb.finish()

    def _said_once(self, failure: threading.ExceptHookArgs) -> None:
        """Leave an error of the file system to the next record, which raises it again."""
        if not isinstance(failure.exc_value, OSError):
            self._hook(failure)

    def _unwritable(self, error: OSError) -> TrainingError:
        if not self._folder.exists():
            return TrainingError(
                f"{self._folder} was removed or renamed while its training wrote to it: train "
                "again, or put it back and go on"
            )
        advice = f", then go on: {self._go_on}" if self._go_on else ""
        return TrainingError(
            f"cannot write the metrics in {self._folder}: {error.strerror or error}; checkpoints "
            f"are untouched: make room{advice}"
        )


class TrackedListener:
    """Passes events on to a listener, and writes records to a tracker."""

    def __init__(self, listener: Listener, tracker: Tracker) -> None:
        self.listener = listener
        self.tracker = tracker

    def on_start(self, step: int, total_steps: int) -> None:
        """Pass it on."""
        self.listener.on_start(step, total_steps)

    def on_step(self, step: int, loss: float, tokens_per_second: float) -> None:
        """Pass it on."""
        self.listener.on_step(step, loss, tokens_per_second)

    def on_measures(self, measures: Mapping[str, float]) -> None:
        """Pass it on."""
        self.listener.on_measures(measures)

    def on_log(self, record: StepRecord) -> None:
        """Write the record."""
        self.tracker.write("train", as_line(record))
        self.listener.on_log(record)

    def on_validation(self, record: ValidationRecord, best: bool) -> None:
        """Write the record, and what else there is to write of a validation."""
        self.tracker.write("validation", as_line(record) | self.more())
        self.listener.on_validation(record, best)

    def more(self) -> dict[str, Any]:
        """Return what is written of a validation beside its record."""
        return {}

    def on_saving(self, step: int) -> None:
        """Wait until the records are on the disk."""
        self.tracker.sync()
        self.listener.on_saving(step)

    def on_checkpoint(self, path: Path) -> None:
        """Pass it on."""
        self.listener.on_checkpoint(path)


@with_config(extra="forbid")
class _Record(TypedDict):
    """A line of metrics.jsonl: a StepRecord, or a ValidationRecord of a model or a classifier."""

    kind: Literal["train", "validation"]
    step: Annotated[int, Field(ge=0)]
    loss: float
    epoch: NotRequired[float]
    tokens: NotRequired[int]
    perplexity: NotRequired[float]
    learning_rate: NotRequired[float]
    gradient_norm: NotRequired[float]
    training_loss: NotRequired[float | None]
    training_perplexity: NotRequired[float | None]
    block_losses: NotRequired[list[float]]
    training_block_losses: NotRequired[list[float]]
    tokens_per_second: NotRequired[float]
    seconds: NotRequired[float]
    accuracy: NotRequired[float]
    macro_f1: NotRequired[float]
    measures: NotRequired[dict[str, float]]
    texts: NotRequired[dict[str, list[float]]]


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a run's metrics.jsonl, by step; a half-written last line is left out.

    What was measured again after an interruption replaces what stands before.

    Raises:
        DataError: naming the first line that is no record, or has changed since it was written.
    """
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    records = {}
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_MOST_BYTES), b""), 1):
            if not line.endswith(b"\n") and len(line) < _MOST_BYTES:
                break
            refuse = refusal(f"{path}, line {number}", DataError, "delete the line")
            record = parse_json(line, refuse)
            if isinstance(record, dict) and CHECKSUM in record:  # versions before wrote none
                record = verified(record, refuse)
            checked(_Record, record, refuse)
            records[record["step"], record["kind"]] = record
    return [records[place] for place in sorted(records)]


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(signed(record)) + "\n"


def _drop_after(path: Path, step: int) -> None:
    if path.exists():
        kept = [record for record in read_metrics(path.parent) if record["step"] <= step]
        write_text(path, "".join(_line(record) for record in kept))
