"""What is said of low-rank factorisation: the worked matrix, and the best that a rank allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import table_of

Result = dict[str, Any]


def example(**values: Any) -> Callable[[Result], None]:
    return lambda result: result["example"].update(values)


def competitor(factor: float) -> Callable[[Result], None]:
    """The best competitor of rank 2 errs so many times as much as the SVD, the others twice."""

    def change(result: Result) -> None:
        for row in result["best"]["rows"]:
            for norm, error in row["measured"].items():
                row["competitor"][norm] = error * (factor if row["rank"] == 2 else 2)

    return change


def formula(factor: float) -> Callable[[Result], None]:
    def change(result: Result) -> None:
        row = result["best"]["rows"][0]
        row["tail"] = {norm: factor * error for norm, error in row["measured"].items()}

    return change


def without_error(*norms: str) -> Callable[[Result], None]:
    def change(result: Result) -> None:
        for row in result["best"]["rows"]:
            row["measured"].update(dict.fromkeys(norms, 0.0))

    return change


CASES = [
    *table_of(
        "lab-svd",
        (None, "6 rows of 5 numbers, all rows are combinations of the first 2. Its singular val"),
        (None, ", and 3 more values of at most"),
        (example(rank=4), ", and 1 more value of at most"),
        (example(rank=5), "Its singular values are", "more value"),
        (None, "22 numbers in place of 30"),
        (example(largest_error=1e-10), "so that nothing is lost; one rank less leaves an error"),
        (
            example(largest_error=1e-7),
            "which is more than rounding; one rank less",
            "so that nothing",
        ),
        # Against competitors.
        (None, "is not of this kind. tab:lab-svd-best compares the error"),
        (lambda f: f["best"].update(rows=[]), "A matrix of low rank", "is not of this kind"),
        (None, "with the least error of 5 competitors of the same rank"),
        (competitor(1.5), "No random factorisation, 5 of each rank, came nearer to it than the tr"),
        (competitor(1.5), "is between 1.50 times (rank 2) and 2.00 times as large."),
        (competitor(1.0), "is between 1.00 times (rank 2) and 2.00 times as large."),
        (competitor(0.99), "A random factorisation of rank 2 was nearer to it than the truncated"),
        (formula(1 + 1e-10), "of the error, which is rounding."),
        (formula(1.01), "Formula and measurement differ by 1.00\u202f%, more than rounding."),
        (without_error("spectral"), "No random factorisation", "leaves no error"),
        (without_error("spectral", "frobenius"), "The truncated SVD leaves no error at any of"),
    ),
    *table_of(
        "lab-svd",
        (None, "No random factorisation, 5 of each rank, came nearer to a trained matrix than"),
        (
            lambda f: f["best"].update(rows=[]),
            "the rank allows. The weight matrices",
            "random factorisation",
        ),
        (None, "what 150 steps of fine-tuning added to them has"),
        (None, "With attention and feed-forward parts cut, 5 matrices in all, rank 4 costs least"),
        (None, "Cut to rank 2, 25.0\u202f% of its numbers, the update keeps 93\u202f% of the gain"),
        alone=True,
    ),
]
