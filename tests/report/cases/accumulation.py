"""What is said of gradients added up over several mini-batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.method_fixtures import timing
from tests.report.telling import all_of, table_of

Result = dict[str, Any]
Change = Callable[[Result], None]


def losses(*values: float) -> Change:
    def change(found: Result) -> None:
        for run, value in zip(found["runs"], values, strict=True):
            run["validation_loss"] = value

    return change


def tokens_of_the_first(factor: float) -> Change:
    def change(found: Result) -> None:
        found["runs"][0]["tokens"] *= factor

    return change


def later_losses(more: float | None) -> Change:
    """The losses of the last run's steps lie so far above those of the first; None: no steps."""

    def change(found: Result) -> None:
        first, last = found["runs"][0], found["runs"][-1]
        for run in (first, last):
            for point in run["curve"]:
                point["loss"] = 3.0
        for point in last["curve"]:
            point["loss"] += more or 0.0
        if more is None:
            last["curve"] = []

    return change


def no_steps(found: Result) -> None:
    found["runs"][0]["curve"] = []


def memory(first: float, last: float, first_whole: float, last_whole: float) -> Change:
    def change(found: Result) -> None:
        runs = found["runs"] = [found["runs"][0], found["runs"][-1]]
        runs[0].update(peak_bytes=first, whole_batch_peak_bytes=first_whole)
        runs[1].update(peak_bytes=last, whole_batch_peak_bytes=last_whole)

    return change


def times(first: float, last: float, spread: float = 0.02) -> Change:
    def change(found: Result) -> None:
        for run in found["runs"]:
            run["epoch"] = timing(first, spread, 24)
        found["runs"][-1]["epoch"] = timing(last, spread, 24)

    return change


def single(found: Result) -> None:
    found["runs"] = found["runs"][:1]


CASES = [
    *table_of(
        "accumulation",
        # The setting.
        (None, "The same model was trained 4 times, from the same initial weights"),
        (single, "The same model was trained, from the same initial weights"),
        (None, "with 1, 2, 4 and 8 of them to an optimizer step"),
        (single, "with 1 of them to an optimizer step"),
        (None, "(one pass over the training split)"),
        (lambda f: f.update(epochs=1.03), "(1.03 passes over the training split)"),
        (None, "validated on 200 windows of the validation split"),
        (lambda f: f.update(validation_windows=None), "validated on the whole validation split"),
        (lambda f: f["runs"].clear(), ""),
        # The loss at equal tokens.
        (None, "All runs saw the same 1.16 million tokens"),
        (tokens_of_the_first(1.019), "the same 1.19 million tokens"),
        (tokens_of_the_first(1.03), "The runs saw 1,163,264 to 1,198,162 tokens", "the same 1."),
        (losses(3.0, 3.1, 3.2, 3.4), "rises with every increase of the batch, from 3.000 to 3.400"
         ". At equal tokens and an equal learning rate, fewer updates bring less progress."),
        (all_of(losses(3.0, 3.1, 3.2, 3.4), tokens_of_the_first(2)), "from 3.000 to 3.400.",
         "At equal tokens"),
        (losses(3.4, 3.2, 3.1, 3.0), "falls with every increase of the batch, from 3.400 to 3.000"),
        (losses(3.2, 3.0, 3.1, 3.3), "not steadily: it is lowest with k = 2 (3.000)."),
        (losses(3.0, 3.009, 3.0, 3.0), "within 0.009 nats of each other, too close for a differ"),
        (losses(3.0, 3.011, 3.0, 3.0), "it is lowest with k = 1", "too close"),
        (single, "The validation loss is 3.", "At equal steps"),
        # The loss at equal steps.
        (later_losses(-0.011), "brings more progress, but it costs 8.0 times the tokens."),
        (later_losses(-0.009), "8.0 times the tokens do not make the updates better."),
        (later_losses(0.009), "8.0 times the tokens do not make the updates better."),
        (later_losses(0.011), "the updates are not better with the larger batch, not even one by"),
        (later_losses(None), "All runs saw", "At equal steps"),
        (no_steps, "All runs saw", "At equal steps"),
        # Memory.
        (memory(1e8, 1.019e8, 1e8, 4e8), "Peak memory hardly depends on k (95.4 to 97.2 MiB)"),
        (memory(1e8, 1.03e8, 1e8, 4e8), "Peak memory changes by 3\u202f% between the settings"),
        (memory(1e8, 1e8, 1e8, 1.019e8), "and the same batches in one piece need no more either."),
        (memory(1e8, 1e8, 1e8, 1.03e8), "grow to 98.2 MiB, 1.0 times as much for 8.0 times the"),
        (memory(1e8, 1e8, 1e8, 4e8), "with k = 8 accumulation saves 75\u202f% of it."),
        (memory(1e8, 4e8, 1e8, 4e8), "with k = 8 accumulation saves none of it."),
        (single, "The validation loss is", "Peak memory"),
        # Time.
        (times(100, 90), "Accumulation is quicker, by a factor of 1.11"),
        (times(100, 110), "Accumulation is slower, by a factor of 1.10"),
        (times(100, 100.1), "The two are not measurably different.", "†"),
        (times(100, 101, 0.6), "Which of them is quicker could not be measured."),
        (times(100, 101, 0.6), "†: disturbed; the spread is above 10\u202f%."),
        (times(100, 101, 0.6), "1\u00a0min 40\u00a0s†"),
        (single, "The validation loss is", "An epoch takes"),
    ),
    *table_of("accumulation", (None, "An epoch takes", "fig:"), drawn=False),
    *table_of("accumulation", (None, "fig:accumulation draws the training losses.")),
]  # fmt: skip
