"""What the training loop tells of: a logged line, a validation, the end, and who listens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class StepRecord:
    """One logged line: means over the steps since the line before."""

    step: int
    epoch: float
    tokens: int
    loss: float
    perplexity: float | None
    """None where the loss is no likelihood (``Task.in_nats``)."""
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float
    seconds: float
    measures: Mapping[str, float] = field(default_factory=dict)
    """What the task measures beside the loss (``Task.measures``)."""


@dataclass(frozen=True)
class ValidationRecord:
    """One validation."""

    step: int
    epoch: float
    tokens: int
    loss: float
    perplexity: float | None
    """None where the loss is no likelihood (``Task.in_nats``)."""
    seconds: float
    training_loss: float | None = None
    """On a fixed sample of the training split, without dropout; None where it is not measured."""
    training_perplexity: float | None = None
    measures: Mapping[str, float] = field(default_factory=dict)
    """What the task measures beside the loss (``Task.held_out_measures``)."""


class Listener(Protocol):
    """Receives the events of training."""

    def on_start(self, step: int, total_steps: int) -> None:
        """Training starts, or resumes, after ``step``."""

    def on_step(self, step: int, loss: float, tokens_per_second: float) -> None:
        """A step is done; ``loss`` is its mean over the target tokens."""

    def on_measures(self, measures: Mapping[str, float]) -> None:
        """A step is done, and this is what the task measured; called before ``on_step``."""

    def on_log(self, record: StepRecord) -> None:
        """A line is logged."""

    def on_validation(self, record: ValidationRecord, best: bool) -> None:
        """A validation is done."""

    def on_saving(self, step: int) -> None:
        """A checkpoint is about to be written: the records before it must be on the disk first."""

    def on_checkpoint(self, path: Path) -> None:
        """A checkpoint is written."""


@dataclass(frozen=True)
class Outcome:
    """How training ended."""

    step: int
    reason: str
    """finished, early-stop, SIGINT or SIGTERM, or what ``Task.stopped`` says."""
    best_loss: float
    seconds: float
    tokens: int


def as_line(record: StepRecord | ValidationRecord) -> dict[str, Any]:
    """Return a record as it is logged: a perplexity and measures only where there are some."""
    line = asdict(record)
    for name in ("perplexity", "measures"):
        if not line[name]:
            del line[name]
    return line
