"""What is said of the ranks of trained weights, and of cutting them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import table_of

Result = dict[str, Any]
LESS, MORE, ALIKE, UNKNOWN = [-0.2, -0.3, -0.1], [0.2, 0.1, 0.3], [0, -0.1, 0.1], [0.2, None, None]


def ranks(share: float, **first: float) -> Callable[[Result], None]:
    """Weights have this share of the effective rank of random numbers; one has other values."""

    def change(result: Result) -> None:
        for row in result["matrices"]:
            row["weight"]["effective_rank"] = share * row["random_effective_rank"]
        result["matrices"][2]["weight"].update(first)

    return change


def steps(*changes: list[float | None] | None) -> Callable[[Result], None]:
    """From each rank to the next the loss changes like this."""

    def change(result: Result) -> None:
        rows = result["cut"]["groups"]["all"]["rows"]
        for row, moved in zip(rows, [None, *changes], strict=False):
            row["before"] = moved

    return change


def only_rank(result: Result) -> None:
    for group in result["cut"]["groups"].values():
        group["rows"] = group["rows"][:1]


def before_intervals(result: Result) -> None:
    for row in result["cut"]["groups"]["all"]["rows"]:
        row.pop("before")


def stored(group: str, number: int) -> Callable[[Result], None]:
    """Factors of every rank hold so many numbers."""

    def change(result: Result) -> None:
        for row in result["cut"]["groups"][group]["rows"]:
            row["stored"] = number

    return change


CASES = [
    *table_of(
        "lab-svd",
        # Ranks.
        (ranks(0.95), "All have full rank up to rounding, so no factorisation is free."),
        (ranks(0.95, rank=3), "Not all have full rank: some can be factorised without loss."),
        (ranks(0.95, effective_rank=0.8), "for the lowest, layers.0.attention.output: after tr"),
        (ranks(0.9), "after training they are nearly as high as those of"),
        (ranks(0.89), "after training their weight lies in fewer directions."),
        # Cuts.
        (None, "With both cut, 5 matrices in all, rank 4 costs least of the ranks tried that sav"),
        (None, "67\u202f% of them stay, the error is 71\u202f% of the weights' norm, and the loss "
         "4.10 nats per token in place of 2.05."),
        (lambda f: f["cut"]["groups"]["all"].update(matrices=1), "With both cut, 1 matrix in all,"),
        (stored("all", 959), "costs least of the ranks tried that save numbers"),
        (stored("all", 960), "None of the ranks tried saves any number."),
        (steps(LESS, LESS, LESS), "The loss falls with every rank added, as the error does."),
        (steps(LESS, MORE, LESS), "but the loss does (from rank 2 to 4): the SVD makes the error"),
        (steps(MORE, ALIKE, MORE), "the loss does (from rank 1 to 2 and from rank 4 to 8)"),
        (steps(LESS, ALIKE, LESS), "The loss never rises with the rank; from rank 2 to 4 it does "
         "not fall measurably either."),
        (steps(LESS, UNKNOWN, MORE), "Whether the loss falls with every rank added could not be"),
        (before_intervals, "Whether the loss falls with every rank added could not be measured."),
        (only_rank, "rank 1 costs least", "every rank added"),
        (None, "At rank 4, cutting attention alone brings the loss to 3.70 and cutting the feed-f"),
        (None, "cutting the feed-forward parts alone brings the loss to 3.35."),
        (stored("attention", 448), "With both cut", "cutting attention alone"),
        (stored("attention", 447), "At rank 4, cutting attention alone"),
        # Figures.
        (None, "lists the weight matrices of the model, and fig:lab-svd-spectra shows their"),
        (None, "truncated to each rank (fig:lab-svd-cut). With both cut"),
    ),
    *table_of("lab-svd", (None, "matrices of the model. All have", "fig:"), drawn=False),
]  # fmt: skip
