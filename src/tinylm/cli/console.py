"""Progress and notes on the terminal's error stream, so that results can be piped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console as RichTerminal
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tinylm.perplexity import perplexity, perplexity_text

if TYPE_CHECKING:
    from tinylm.training.loop import Listener, StepRecord, ValidationRecord

_SECONDS_BETWEEN_LINES = 30.0


class TerminalConsole:
    """Shows bars on a terminal, and lines where the output is a file or a pipe."""

    def __init__(self) -> None:
        self.terminal = RichTerminal(stderr=True, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Write one line."""
        self.terminal.print(text, markup=False)

    def warn(self, text: str) -> None:
        """Write one line that needs attention."""
        self.terminal.print(f"warning: {text}", markup=False, style="yellow")

    def _progress(self, *columns: ProgressColumn) -> Progress:
        hidden = not self.terminal.is_terminal  # a log file wants lines, not bars
        return Progress(*columns, console=self.terminal, transient=True, disable=hidden)

    @contextmanager
    def task(
        self, description: str, total: float | None = None
    ) -> Iterator[Callable[[float], None]]:
        """Show a bar, or a count where the total is not known."""
        started = time.perf_counter()
        columns = [
            SpinnerColumn(),
            TextColumn("{task.description}"),
            *((BarColumn(), TaskProgressColumn(), TimeRemainingColumn()) if total else ()),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
        ]
        with self._progress(*columns) as progress:
            task = progress.add_task(description, total=total, count="")

            def done(amount: float) -> None:
                count = "" if total else f"{amount:,.0f}"
                progress.update(task, completed=amount if total else 0, count=count)

            yield done
        self.note(f"{description}: done in {time.perf_counter() - started:.1f} s")

    @contextmanager
    def training(self) -> Iterator[Listener]:
        """Show training's bar: step, loss, perplexity, tokens a second, time left."""
        columns = (
            TextColumn("Training"),
            BarColumn(bar_width=12),  # all of it fits 80 columns
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
        )
        with self._progress(*columns) as progress:
            yield _TrainingBar(self, progress)


class _TrainingBar:
    def __init__(self, console: TerminalConsole, progress: Progress) -> None:
        self.console = console
        self.progress = progress
        self.loss = math.nan
        self.speed = math.nan
        self.total = 0
        self.last_line = time.perf_counter()

    def on_start(self, step: int, total_steps: int) -> None:
        self.total = total_steps
        self.task = self.progress.add_task("", total=total_steps, numbers="")
        if step:
            # Shown as done, but not counted as this session's speed.
            self.progress.update(self.task, completed=step)
            self.progress.reset(self.task, completed=step)
            self.console.note(f"Going on after step {step:,} of {total_steps:,}")

    def on_step(self, step: int, loss: float, tokens_per_second: float) -> None:
        self.loss = loss if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * loss
        speed = tokens_per_second
        self.speed = speed if math.isnan(self.speed) else 0.95 * self.speed + 0.05 * speed
        numbers = f"loss {self.loss:.3f}  ppl {perplexity(self.loss):.4g}"
        numbers += f"  {self.speed:,.0f} tok/s"
        self.progress.update(self.task, completed=step, numbers=numbers)
        if not self.console.terminal.is_terminal:
            now = time.perf_counter()
            if now - self.last_line > _SECONDS_BETWEEN_LINES:
                self.last_line = now
                self.console.note(f"step {step:,} of {self.total:,}  {numbers}")

    def on_log(self, record: StepRecord) -> None:
        """The bar shows every step already."""

    def on_validation(self, record: ValidationRecord, best: bool) -> None:
        self.console.note(
            f"step {record.step:,}  epoch {record.epoch:.2f}  validation loss {record.loss:.4f}  "
            f"perplexity {perplexity_text(record.perplexity)}{'  (best)' if best else ''}"
        )

    def on_checkpoint(self, path: Path) -> None:
        """Checkpoints are frequent and not worth a line."""
