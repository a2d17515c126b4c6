"""What is said of gradient checkpointing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.made_up import timing
from tests.report.telling import table_of

Result = dict[str, Any]
ALL = ("depth", "context")


def rows(result: Result) -> list[Result]:
    return [row for series in ALL for row in result[series]]


def ratio(value: float, spread: float = 0.02) -> Callable[[Result], None]:
    """Steps with recomputation take so many times as long."""

    def change(result: Result) -> None:
        for row in rows(result):
            row["step"] = timing(value if row["segment"] else 1.0, spread, 5)

    return change


def one_ratio(result: Result) -> None:
    ratio(4 / 3)(result)
    result["depth"][-2]["step"] = timing(1.2, 0.02, 5)
    result["depth"][-1]["step"] = timing(1.6, 0.02, 5)


def without_plain(result: Result) -> None:
    for series in ALL:
        result[series] = [row for row in result[series] if row["segment"]]


def every(**values: Any) -> Callable[[Result], None]:
    def change(result: Result) -> None:
        for row in rows(result):
            row.update(values)

    return change


def growth(plain: float, again: float) -> Callable[[Result], None]:
    """What is kept becomes so many times as large from the shortest context to the longest."""

    def change(result: Result) -> None:
        for row in result["context"]:
            factor = again if row["segment"] else plain
            row["saved_bytes"] = 1_000 * (factor if row["context_length"] == 256 else 1)

    return change


def only(series: str, keep: Callable[[Result], bool]) -> Callable[[Result], None]:
    def change(result: Result) -> None:
        result[series] = [row for row in result[series] if keep(row)]

    return change


CASES = [
    *table_of(
        "gradient-checkpointing",
        # Memory against depth.
        (None, "lowest with segments of 1 layer, 393 MiB against 762 MiB, or 48\u202f% less"),
        (None, "adds to the peak 52.8 MiB without recomputation, 19.0 MiB with segments of 1 laye"),
        (every(peak_bytes=10**8), "At 12 layers no segment length measured lowers the peak."),
        (without_plain, "At 12 layers no segment length measured lowers the peak.", "adds to"),
        (only("depth", lambda row: row["num_layers"] == 3), "At 3 layers the peak is", "adds to"),
        (None, "is 2.34 MiB for a layer's input and"),
        (None, "is 36.1 MiB for its inside, so the least memory is expected near k = 0.9 (that is"),
        (lambda f: [row.update(saved_bytes=row["num_layers"] * (500 if row["segment"] else 1_000))
                    for row in f["depth"]], "expected near k = 2.4; if a and b were equal"),
        (only("depth", lambda row: not row["segment"]), "At 12 layers no segment", "adds to"),
        (only("depth", lambda row: row["segment"] != 1), "is lowest with segments of 3 layers"),
        (only("depth", lambda row: row["segment"] != 1), "MiB, or 41\u202f% less.", "formula is"),
        (every(saved_bytes=1), "48\u202f% less.", "in the formula is"),
        (lambda f: [row.update(saved_bytes=row["num_layers"]) for row in f["depth"]],
         "48\u202f% less.", "in the formula is"),
        # Time.
        (ratio(4 / 3), "No ratio is measurably different from the expected 4/3.", "measurably be"),
        (ratio(1.2), "1.20). Of the 10 ratios, 10 are measurably below the expected 4/3. A"),
        (ratio(1.6), "1.60). Of the 10 ratios, 10 are measurably above the expected 4/3. A higher"),
        (one_ratio, "Of the 10 ratios, 1 is measurably below and 1 is measurably above the"),
        (ratio(1.6), "takes 1.60 to 1.60 times as long (median of 10 comparisons: 1.60)"),
        (ratio(1.6), "with and without recomputation in turns", "Not all of these"),
        (ratio(0.8), "Not all of these times are measurably longer: 10 measurably shorter."),
        (ratio(1.005), "measurably longer: 10 not measurably different."),
        (ratio(1.05, 0.9), "measurably longer: 10 that could not be measured."),
        (ratio(1.05, 0.9), "†: disturbed"),
        (without_plain, "No training without recomputation was measured for comparison."),
        # Memory against context.
        (growth(2.0, 1.0), "with the same number of tokens in a batch, what the forward pass keep"),
        (growth(2.0, 1.0), "becomes 2.00 times as large without recomputation, 1.00 times as larg"),
        (growth(1.06, 1.0), "grows by more than the number of tokens: the attention patterns"),
        (growth(1.06, 1.0), "With recomputation the patterns are not kept, and what is kept"),
        (growth(1.06, 1.06), "grows by more than the number of tokens", "are not kept"),
        (growth(1.04, 1.0), "grows by no more than the number of tokens", "are not kept"),
        (every(batch_size=8), "with 4.00 times the tokens in a batch"),
        (only("context", lambda row: row["context_length"] == 64), "Only one context length was"),
        (only("context", lambda row: row["segment"] > 0), "with segments of 1 layer and", "grows"),
        (only("context", lambda row: not row["segment"]), "as large without recomputation."),
        (only("context", lambda row: (row["context_length"] == 64) is not bool(row["segment"])),
         "No setting was measured at both ends of the context lengths."),
        (lambda f: f.update(context=[]), "tab:checkpointing-depth shows what", "against context."),
        (None, "tab:checkpointing-depth and tab:checkpointing-context show what"),
        # The rest.
        (lambda f: f.update(depth=[]), ""),
        (None, "Peak memory is the greatest number of bytes of tensors alive at once"),
        (lambda f: f.update(measure="torch.cuda.max_memory_allocated"), "is that of torch.cuda"),
        (None, "(batches of 32 windows of 64 tokens). Right"),
        (None, "(3 layers, batches of 2,048 tokens)"),
        (lambda f: f["context"][0].update(batch_size=99), "(3 layers)."),
        (lambda f: f.update(context=[]), "against the context length."),
    ),
    *table_of("gradient-checkpointing", (None, "Memory against depth.", "Left: peak"), drawn=False),
]  # fmt: skip
