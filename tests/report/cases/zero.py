"""What is said of what ZeRO's stages hold and send, and of how far they are from one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import all_of, table_of

Result = dict[str, Any]
Change = Callable[[Result], object]


def only(**wanted: Any) -> Change:
    """Keep the rows that have these values."""

    def change(result: Result) -> None:
        result["rows"] = [
            row for row in result["rows"] if all(row[key] == value for key, value in wanted.items())
        ]

    return change


def more(what: str, number: int) -> Change:
    """Let the first row with anything planned have measured so much more than all formulas say."""

    def change(result: Result) -> None:
        rows = (row for row in result["rows"] if "planned" in row and row["ranks"] == 2)
        next(rows)[what]["gradients"] += number

    return change


def alike(*groups: tuple[int, ...]) -> Change:
    """Let stages of a group end with the same bits."""

    def change(result: Result) -> None:
        for row in result["rows"]:
            (own,) = [group for group in groups if row["stage"] in group]
            row["same"] = [stage for stage in own if stage < row["stage"]]

    return change


def once_unlike(result: Result) -> None:
    """In one row of many a stage does not end with the bits of the others."""
    (row, *_) = [row for row in result["rows"] if row["stage"] == 3 and row["ranks"] == 2]
    row["same"] = []


def far(precision: str, difference: float) -> Change:
    def change(result: Result) -> None:
        for row in result["rows"]:
            if row["precision"] == precision:
                row["difference"]["parameters"] = difference / row["ranks"]

    return change


ONCE = only(micro_batches=1)

CASES = [
    *table_of(
        "zero",
        (None, "A decoder with 279,081 parameters, 3 layers of width 64, was trained for 3 steps"),
        (None, "They leave out the zeros in the buckets, 1 number in 4 buckets for 2 ranks, and 4 "
         "bytes with which Adam counts the steps of a bucket; with these the formulas give all 32 "
         "measurements, byte for byte. On 2 ranks stage 3 holds 2.00 times less than stage 0."),
        (more("held", 446_530), "What is held is at most 10\u202f% above the formulas."),
        (more("held", 446_530), "also with these 1 of 32 measurements differ from the formulas"),
        (only(ranks=1), "for 1 rank, and 4 bytes with which", "times less than stage 0"),
        (None, "is gathered, or about to be summed, as a whole: one of 2 ranks in bfloat16 at "
         "the most 5\u202f% in stage 1, 10\u202f% in stage 2 and 26\u202f% in stage 3.",
         "in stage 0"),
        (None, "What is sent is at most 0.00036\u202f% above the formulas: the zeros in the "
         "buckets are sent, too; with these the formulas give all 16 measurements, number for "
         "number. With 3 micro-batches a step in place of 1, 1.00 times as much by stage 0, "
         "1.00 times as much by stage 1, 2.00 times as much by stage 2 and 3.00 times as much by "
         "stage 3 is sent."),
        (more("sent", 1), "are sent, too; also with these 1 of 16 measurements differ from"),
        (ONCE, "give all 8 measurements, number for number. tab:zero-traffic lists", "in place of"),
        (only(ranks=1), "One rank sends nothing.", "tab:zero-traffic"),
        (far("fp64", 4e-13), "by more than 2.0·10⁻¹³ in float64, "),
        (far("bf16", 0.02), " and 0.010 in bfloat16. That is rounding: sums over ranks"),
        (only(ranks=1), "One rank is one process.", "That is rounding"),
        (None, "With 1 micro-batch a step stages 0, 1, 2 and 3 end with the same bits. With 3 "
         "micro-batches a step stages 0 and 1 end with the same bits, and so do stages 2 and 3."),
        (all_of(ONCE, alike((0,), (1,), (2,), (3,))),
         "With 1 micro-batch a step no two stages end with the same bits."),
        (all_of(ONCE, alike((0, 1, 3), (2,))), "step stages 0, 1 and 3 end with the same bits. "),
        (all_of(ONCE, once_unlike), "step stages 0, 1 and 2 end with the same bits. "),
        (None, "fig:zero-memory shows what each stage holds."),
    ),
    *table_of("zero", (None, "tab:zero-memory lists the sums.", "fig:"), drawn=False),
    *table_of(
        "zero",
        (None, "A small model is trained by every stage of ZeRO on several processes of one mach"),
        alone=True,
    ),
]  # fmt: skip
