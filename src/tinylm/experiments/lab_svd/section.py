"""Low-rank factorisation: what two factors can hold of weights, and of a fine-tuning update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.lab_svd.update import rank_kept_comment, update_blocks
from tinylm.experiments.lab_svd.weights import mean_share, saving_comment, weights_blocks
from tinylm.report.blocks import (
    Block,
    Heading,
    Paragraph,
    Table,
    code,
)
from tinylm.report.formatting import count, listed, percent, plural, significant
from tinylm.report.measurements import signed
from tinylm.report.passages import passages

TEXT = passages(__file__)

_ROUNDING = 1e-9
"""Relative difference up to which two errors computed in float64 are the same: a fixed bound, since
only rounding makes them differ."""

Row = Mapping[str, Any]


def summary(result: Mapping[str, Any]) -> str:
    """Return the lab in a paragraph, as inline markup."""
    matrices, update = result["matrices"], result["update"]
    best = result["best"]["rows"]
    sentences = [TEXT.line("summary")]
    if best:
        sentences.append(_winner(result["best"], "a trained matrix"))
    weights, updates = (mean_share(matrices, part) for part in ("weight", "update"))
    sentences.append(
        f"The weight matrices of the trained model have {percent(weights, 0)} of the effective "
        "rank of random numbers of their shape on average; what "
        f"{plural(update['steps'], 'step')} of fine-tuning added to them has {percent(updates, 0)}."
    )
    return " ".join(
        [
            *sentences,
            saving_comment(result["cut"], "With attention and feed-forward parts cut"),
            rank_kept_comment(result),
        ]
    )


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``lab-svd``."""
    result = results.results.get("lab-svd")
    if result is None:
        return []
    return [
        Heading(1, "Low-rank factorisation by SVD", "sec:lab-svd"),
        *TEXT.blocks("technique"),
        Heading(2, "A matrix of low rank, and one that is not", "sec:lab-svd-best"),
        Paragraph(example_comment(result["example"])),
        _example_table(result["example"]),
        *_best(result["best"]),
        Heading(2, "Trained weights", "sec:lab-svd-weights"),
        *weights_blocks(results, result),
        Heading(2, "A fine-tuning update", "sec:lab-svd-update"),
        *update_blocks(results, result),
    ]


def example_comment(example: Mapping[str, Any]) -> str:
    """Return what becomes of a matrix of low rank."""
    rows, columns = len(example["matrix"]), len(example["matrix"][0])
    rank, values = example["rank"], example["values"]
    factors = len(example["left"][0])
    text = (
        f"In the matrix of [[tab:lab-svd-example]], {rows} rows of {columns} numbers, all rows "
        f"are combinations of the first {factors}. Its singular values are "
        f"{listed([significant(value) for value in values[:rank]])}"
    )
    if rank < len(values):
        text += (
            f", and {plural(len(values) - rank, 'more value')} of "
            f"at most {significant(max(values[rank:]), 1)}, due to rounding: the rank is {rank}"
        )
    exact = example["largest_error"] <= _ROUNDING * values[0]
    left = "so that nothing is lost" if exact else "which is *more* than rounding"
    return (
        f"{text}. The product of its two factors of rank {factors}, {example['parameters']} "
        f"numbers in place of {rows * columns}, differs from it by "
        f"at most {significant(example['largest_error'], 1)}, {left}; one rank less leaves "
        f"an error of {significant(example['rank_1_error'])}, the next singular value."
    )


def _example_table(example: Mapping[str, Any]) -> Table:
    columns, factors = len(example["matrix"][0]), len(example["left"][0])
    whole = [
        (*(signed(value, 0) for value in row), *(signed(value, 3) for value in left))
        for row, left in zip(example["matrix"], example["left"], strict=True)
    ]
    rows = []
    for i, row in enumerate(whole):
        right = [signed(line[i], 3) if i < columns else "" for line in example["right"]]
        rows.append((*row, *right))
    return Table(
        "tab:lab-svd-example",
        TEXT.line("example, table", rank=str(example["rank"])),
        ("Matrix", "Left", "Right"),
        tuple(rows),
        "r" * (columns + 2 * factors),
        spans=(columns, factors, factors),
    )


def _best(best: Mapping[str, Any]) -> list[Block]:
    rows = best["rows"]
    if not rows:
        return []
    return [
        *TEXT.blocks(
            "nearest matrix",
            matrix=code(best["matrix"]),
            competitors=plural(best["competitors"], "competitor"),
            comment=best_comment(best),
        ),
        Table(
            "tab:lab-svd-best",
            TEXT.line("nearest matrix, table", matrix=code(best["matrix"])),
            ("Rank", "Of its norm", "Frobenius", "measured", "competitor", "Spectral", "measured",
             "competitor"),
            tuple(
                (
                    count(row["rank"]),
                    percent(row["relative"]),
                    *(
                        significant(row[way][norm], 4)
                        for norm in ("frobenius", "spectral")
                        for way in ("tail", "measured", "competitor")
                    ),
                )
                for row in rows
            ),
            "rrrrrrrr",
        ),
    ]  # fmt: skip


def best_comment(best: Mapping[str, Any]) -> str:
    """Return whether the formula holds, and whether anything came nearer."""
    gap = max(
        abs(row["tail"][norm] / row["measured"][norm] - 1) if row["measured"][norm] else 0.0
        for row in best["rows"]
        for norm in ("frobenius", "spectral")
    )
    formula = (
        f"Formula and measurement differ by at most {significant(gap, 1)} of the error, which is "
        "rounding."
        if gap <= _ROUNDING
        else f"Formula and measurement differ by {percent(gap, 2)}, *more* than rounding."
    )
    return f"{formula} {_winner(best, 'it')}"


def _winner(best: Mapping[str, Any], matrix: str) -> str:
    ratios = [
        (row["competitor"][norm] / row["measured"][norm], row["rank"])
        for row in best["rows"]
        for norm in ("frobenius", "spectral")
        if row["measured"][norm]
    ]
    if not ratios:
        return "The truncated SVD leaves no error at any of the ranks."
    (nearest, rank), (furthest, _) = min(ratios), max(ratios)
    if nearest < 1 - _ROUNDING:
        return (
            f"A random factorisation of rank {rank} was *nearer* to {matrix} than the truncated "
            "SVD, which cannot be if the SVD is right."
        )
    return (
        f"No random factorisation, {count(best['competitors'])} of each rank, came nearer to "
        f"{matrix} than the truncated SVD: their least error is between {significant(nearest)} "
        f"times (rank {rank}) and {significant(furthest)} times as large."
    )
