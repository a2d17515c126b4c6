"""What is said of number formats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import table_of

Result = dict[str, Any]


def change_of(*interval: float | None) -> Callable[[Result], None]:
    return lambda result: result.update(loss_change=list(interval))


def failed(*names: str) -> Callable[[Result], None]:
    return lambda result: result.update(failed=list(names))


def worst(start: float, end: float) -> Callable[[Result], None]:
    """The largest errors of the gradients."""

    def change(result: Result) -> None:
        for place, error in (("start", start), ("end", end)):
            for part in result["agreement"][place].values():
                part["error"] = error

    return change


CASES = table_of(
    "precision",
    (None, "The model was trained twice for 500 steps, from the same weights"),
    (lambda f: f.update(steps=1), "trained twice for 1 step, from"),
    # The loss.
    (change_of(0.002, 0.001, 0.003), "3.8231 after bfloat16, measurably higher, by 0.04\u202f%."),
    (change_of(-0.002, -0.003, -0.001), "after bfloat16, measurably lower, by 0.04\u202f%."),
    (change_of(0.002, -0.001, 0.005), "bfloat16, not measurably different, with a difference of "
     "0.04\u202f%."),
    (change_of(0.002, None, None), "after bfloat16, with a difference of 0.04\u202f%.", "measurab"),
    (lambda f: f.pop("loss_change"), "after bfloat16, with a difference of 0.04", "measurab"),
    (None, "Up to 0.5\u202f% is allowed. The trainings took", "exceeded"),
    (failed("loss"), "is allowed: this is exceeded, so train this model with training.precision="),
    (failed("loss"), "All are within these bounds: the largest errors"),
    (None, "The trainings took 1\u00a0min 21\u00a0s and 44\u00a0s, one after the other, on Intel",
     "no instructions"),
    (lambda f: f.update(native=False), "; this processor has no instructions for products in bf"),
    # The gradients.
    (failed("gradient at the end"), "The gradient at the end is outside these", "All are within"),
    (failed("gradient at the start", "gradient at the end"), "The gradient at the start and the "
     "gradient at the end are outside these bounds."),
    (worst(0.02, 0.05), "All are within these bounds: the largest errors are 2.0\u202f% at the"),
    (worst(0.02, 0.05), "at the end. A possible reason is that near a minimum"),
    (worst(0.05, 0.05), "5.0\u202f% at the end.", "near a minimum"),
    (None, "whole gradient\n"),
)  # fmt: skip
