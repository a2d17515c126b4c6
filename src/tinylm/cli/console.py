"""Progress and notes on the terminal's error stream, so that results can be piped."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console as RichTerminal
from rich.console import ConsoleOptions, RenderableType
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
from rich.segment import Segment

from tinylm.perplexity import perplexity, perplexity_text
from tinylm.printable import printable

if TYPE_CHECKING:
    from tinylm.training.events import Listener, StepRecord, ValidationRecord

SECONDS_BETWEEN_LINES = 30.0


class Terminal(RichTerminal):
    """Rich's console for words of a corpus, a user or a model: no markup, no control characters."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(
            stderr=stderr, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False
        )

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Yield segments whose text is printable; Rich's own cursor movements are no text."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text), style)


class TerminalConsole:
    """Shows bars on a terminal, and lines where the output is a file or a pipe."""

    def __init__(self) -> None:
        self.terminal = Terminal(stderr=True, soft_wrap=True)

    def note(self, text: str) -> None:
        """Write one line."""
        self.terminal.print(text)

    def warn(self, text: str) -> None:
        """Write one line that needs attention."""
        self.terminal.print(f"warning: {text}", style="yellow")

    def _progress(self, *columns: ProgressColumn) -> Progress:
        hidden = not self.terminal.is_terminal  # a log file gets lines, not bars
        return Progress(*columns, console=self.terminal, transient=True, disable=hidden)

    @contextmanager
    def task(
        self, description: str, total: float | None = None, brief: bool = False
    ) -> Iterator[Callable[[float], None]]:
        """Show a bar, or a count where the total is not known.

        Args:
            description: of the work.
            total: the amount at the end, in the unit of the function's argument; empty: not known.
            brief: leave no line when it is done.
        """
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

            lines = Lines(self.note, description, total)

            def done(amount: float) -> None:
                count = "" if total else f"{amount:,.0f}"
                progress.update(task, completed=amount if total else 0, count=count)
                lines.reached(amount)

            with self._now_and_then(lines):
                yield done
        if not brief:
            self.note(f"{description}: done in {time.perf_counter() - started:.1f} s")

    @contextmanager
    def _now_and_then(self, lines: Lines) -> Iterator[None]:
        """Write a line every half minute where there is no terminal, whatever is reported."""
        if self.terminal.is_terminal:
            yield
            return
        over = threading.Event()

        def watch() -> None:
            while not over.wait(SECONDS_BETWEEN_LINES):
                lines.write()

        watcher = threading.Thread(target=watch, name="progress lines", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

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
        lines = Lines(self.note, "Training")
        with self._progress(*columns) as progress, self._now_and_then(lines):
            yield _TrainingBar(self, progress, lines)


class Lines:
    """The progress lines of a piece of work: amount done, speed and time left."""

    def __init__(
        self,
        write: Callable[[str], None],
        description: str,
        total: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._description = description
        self.total = total
        self._clock = clock
        self.begin(0)

    def begin(self, amount: float) -> None:
        """Count speed and time from now on, when so much is done already."""
        self._first = self._amount = amount
        self._started = self._clock()
        self._more = ""

    def reached(self, amount: float, more: str = "") -> None:
        """Record the amount done, and a few words about it."""
        self._amount = amount
        self._more = more

    def write(self) -> None:
        """Write a line of the present state."""
        seconds, total = self._clock() - self._started, self.total
        done = self._amount - self._first
        parts = []
        if self._amount and total == 1:
            parts.append(f"{self._amount:.0%}")
        elif self._amount:
            of = f" of {total:,g} ({self._amount / total:.0%})" if total else ""
            parts.append(f"{self._amount:,.6g}{of}")
        parts.append(f"{_clock_time(seconds)} so far")
        if done > 0 and seconds > 0:
            if total != 1:
                rate = done / seconds
                parts.append(f"{rate:,.0f} a second" if rate >= 100 else f"{rate:.3g} a second")
            if total:
                left = (total - self._amount) * seconds / done
                parts.append(f"about {_clock_time(left)} left")
        if self._more:
            parts.append(self._more)
        self._write(f"{self._description}: {', '.join(parts)}")


def named_numbers(numbers: Mapping[str, float]) -> str:
    """Return measures in the words of a line: each name and its number, in four digits."""
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())


def _clock_time(seconds: float) -> str:
    return str(timedelta(seconds=max(0, round(seconds))))


class _TrainingBar:
    def __init__(self, console: TerminalConsole, progress: Progress, lines: Lines) -> None:
        self.console = console
        self.progress = progress
        self.lines = lines
        self.loss = math.nan
        self.speed = math.nan
        self.measures: Mapping[str, float] = {}

    def on_start(self, step: int, total_steps: int) -> None:
        self.lines.total = total_steps
        self.lines.begin(step)
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
        if self.measures:  # the loss is then of no text, and its targets may be no tokens
            numbers = named_numbers(self.measures)
        self.progress.update(self.task, completed=step, numbers=numbers)
        self.lines.reached(step, numbers)

    def on_measures(self, measures: Mapping[str, float]) -> None:
        self.measures = measures

    def on_log(self, record: StepRecord) -> None:
        """The bar shows every step already."""

    def on_validation(self, record: ValidationRecord, best: bool) -> None:
        words = [f"step {record.step:,}"]
        if record.perplexity is not None:
            words.append(f"epoch {record.epoch:.2f}")
        words.append(f"validation loss {record.loss:.4f}")
        if record.perplexity is not None:
            words.append(f"perplexity {perplexity_text(record.perplexity)}")
        if record.measures:
            words.append(named_numbers(record.measures))
        self.console.note("  ".join(words + ["(best)"] * best))

    def on_saving(self, step: int) -> None:
        """Nothing is kept here."""

    def on_checkpoint(self, path: Path) -> None:
        """Nothing is written: checkpoints are frequent."""
