"""What is said of hyperparameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import Case, table_of

Result = dict[str, Any]
Change = Callable[[Result], object]


def losses(*by_change: float) -> Change:
    """Give the changed trainings these losses; the run's own have 2.70, 2.702 and 2.698."""

    def change(result: Result) -> None:
        for row, loss in zip(result["changes"], by_change, strict=True):
            row["validation_loss"] = loss

    return change


def once(result: Result) -> None:
    result["repeats"] = [2.70]


def without(varied: str) -> Change:
    def change(result: Result) -> None:
        result["changes"] = [row for row in result["changes"] if row["varied"] != varied]

    return change


CASES = [
    *table_of(
        "hyperparameters",
        (None, "3 layers, 8 heads and a learning rate of 3·10⁻⁴. The width"),
        (None, "reaches a validation perplexity of 14.9, the mean of its trainings"),
        # exp(2.9) = 18.2, exp(2.65) = 14.2, exp(2.71) = 15.0, exp(2.701) = 14.9
        (None, "It is 18.2 with 1 layer (higher) and 14.2 with 6 layers (lower). It is 15.0 with "
               "1 head (higher) and 14.9 with 4 heads (not measurably different)."),
        (None, "6 layers would be the best of these changes"),
        (losses(2.9, 2.699, 2.71, 2.70, 2.9, 2.7), "None of these changes is measurably better",
         "would be the best"),
        (losses(2.9, 2.65, 2.71, 2.70, 2.6, 2.7), "a learning rate of 7.5·10⁻⁵ would be the best"),
        (once, "18.2 with 1 layer (could not be measured)", "higher"),
        (without("num_heads"), "18.2 with 1 layer", "4 heads"),
        (None, "draws the same"),
    ),
    Case("hyperparameters", "14.9", unsaid="draws the same", drawn=False),
]  # fmt: skip
