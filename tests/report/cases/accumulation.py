"""What is said of gradients added up over several mini-batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.made_up import timing
from tests.report.telling import all_of, table_of

Result = dict[str, Any]
Change = Callable[[Result], None]


LESS, MORE, ALIKE, UNKNOWN = [-0.2, -0.3, -0.1], [0.2, 0.1, 0.3], [0, -0.1, 0.1], [0.2, None, None]


def losses(*changes: list[Any], whole: list[Any] = ALIKE) -> Change:
    """From each run to the next the loss changes like this, and from the first to the last."""

    def change(result: Result) -> None:
        for run, moved in zip(result["runs"][1:], changes, strict=True):
            run["beside"]["previous"] = moved
        result["runs"][-1]["beside"]["first"] = whole

    return change


def two(moved: list[Any]) -> Change:
    def change(result: Result) -> None:
        result["runs"] = result["runs"][:2]
        losses(moved, whole=moved)(result)

    return change


def tokens_of_the_first(factor: float) -> Change:
    def change(result: Result) -> None:
        result["runs"][0]["tokens"] *= factor

    return change


def at_equal_steps(moved: list[Any]) -> Change:
    return lambda result: result["runs"][-1]["beside"].update(equal_steps=moved)


def unmeasured(result: Result) -> None:
    result["runs"][0]["equal_steps"]["validation_loss"] = None


def before_intervals(result: Result) -> None:
    for run in result["runs"]:
        run.pop("beside")
        run.pop("equal_steps")


def memory(first: float, last: float, first_whole: float, last_whole: float) -> Change:
    def change(result: Result) -> None:
        runs = result["runs"] = [result["runs"][0], result["runs"][-1]]
        runs[0].update(peak_bytes=first, whole_batch_peak_bytes=first_whole)
        runs[1].update(peak_bytes=last, whole_batch_peak_bytes=last_whole)

    return change


def times(first: float, last: float, spread: float = 0.02) -> Change:
    def change(result: Result) -> None:
        for run in result["runs"]:
            run["epoch"] = timing(first, spread, 24)
        result["runs"][-1]["epoch"] = timing(last, spread, 24)

    return change


def curves(entries: int) -> Change:
    """Every training has so many log entries."""

    def change(result: Result) -> None:
        for run in result["runs"]:
            run["curve"] = run["curve"][:1] * entries

    return change


def single(result: Result) -> None:
    result["runs"] = result["runs"][:1]


CASES = [
    *table_of(
        "accumulation",
        # The setting.
        (None, "The same model was trained 4 times from the same initial weights"),
        (single, "The same model was trained from the same initial weights"),
        (None, "Losses are compared over the validation windows; each setting was trained once"),
        (single, "not adapted to the batch.", "Losses are compared"),
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
        (tokens_of_the_first(0.99), "All runs saw the same 1.16 million tokens"),
        (tokens_of_the_first(1.03), "The runs saw 1,163,264 to 1,198,162 tokens", "the same 1."),
        (losses(MORE, MORE, MORE, whole=MORE), "rises with every increase of the batch, from 3.0"),
        (losses(MORE, MORE, MORE, whole=MORE), "by 0.200 nats (95\u202f% interval: 0.100 to 0.300)."
         " At equal tokens and an equal learning rate, fewer updates led to a higher loss."),
        (all_of(losses(MORE, MORE, MORE, whole=MORE), tokens_of_the_first(2)), "to 0.300). At equ",
         "At equal tokens"),
        (losses(LESS, LESS, LESS, whole=LESS), "falls with every increase of the batch, from"),
        (losses(LESS, LESS, LESS, whole=LESS), ", by 0.200 nats (95\u202f% interval: 0.100 to 0.3"),
        (losses(LESS, MORE, ALIKE, whole=MORE), "From each setting to the next it is lower (k = 2)"
         ", higher (k = 4) and not measurably different (k = 8); the last compared with the"),
        (losses(MORE, ALIKE, MORE, whole=MORE), "higher (k = 8); the last compared", "with every"),
        (losses(ALIKE, ALIKE, ALIKE), "compared with the first is not measurably different."),
        (losses(MORE, MORE, UNKNOWN, whole=MORE), "; whether the losses differ could not be meas"),
        (before_intervals, "; whether the losses differ could not be measured.", "At equal"),
        (two(ALIKE), "which is not measurably different. At equal steps"),
        (two(MORE), "The validation loss rises with every increase"),
        (single, "The validation loss is 3.", "At equal steps"),
        # The loss at equal steps.
        (at_equal_steps(LESS), "At equal steps, 142 of each, the validation loss is 4.883"),
        (at_equal_steps(LESS), "larger batch reduces the loss by more, for 8 times the tokens."),
        (at_equal_steps(MORE), "with the larger batch an update reduces the loss by less."),
        (at_equal_steps(ALIKE), "which is not measurably different: 8 times the tokens do not m"),
        (at_equal_steps(UNKNOWN), "with k = 8; whether they differ could not be measured."),
        (unmeasured, "All runs saw", "At equal steps"),
        # Memory.
        (memory(1e8, 1.019e8, 1e8, 4e8), "Peak memory hardly depends on k (95.4 to 97.2 MiB)"),
        (memory(1e8, 1.03e8, 1e8, 4e8), "Peak memory changes by 3\u202f% between the settings"),
        (memory(1e8, 1e8, 1e8, 1.019e8), "same batches without accumulation need no more either."),
        (memory(1e8, 1e8, 1e8, 1.03e8), "is 98.2 MiB, 1.0 times that with 16; accumulation"),
        (memory(1e8, 1e8, 1e8, 4e8), "times that with 16; accumulation saves 75\u202f% of it."),
        (memory(1e8, 4e8, 1e8, 4e8), "accumulation saves none of it."),
        (single, "The validation loss is", "Peak memory"),
        # Time.
        (times(100, 90), "1\u00a0min 30\u00a0s with k = 8, less by a factor of 1.11"),
        (times(100, 110), "with k = 8, more by a factor of 1.10"),
        (times(100, 100.1), "which is not measurably different. The trainings ran one", "†"),
        (times(100, 101, 0.6), "whether the times differ could not be measured. The trainings"),
        (times(100, 101, 0.6), "more than 10\u202f% of the median."),
        (times(100, 101, 0.6), "1\u00a0min 40\u00a0s†"),
        (single, "The validation loss is", "An epoch takes"),
    ),
    # The figure.
    *table_of(
        "accumulation",
        (curves(24), "numbers of mini-batches (each a moving average over 5 log entries), against"),
        (curves(23), "numbers of mini-batches, against optimizer steps", "moving average"),
    ),
    *table_of("accumulation", (None, "An epoch takes", "fig:"), drawn=False),
    *table_of("accumulation", (None, "fig:accumulation shows the training losses.")),
]  # fmt: skip
