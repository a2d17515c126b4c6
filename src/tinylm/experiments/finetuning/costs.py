"""What fine-tuning costs, method by method: bytes, memory, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.finetuning.rows import Row, few_rows, full_row, label, noun
from tinylm.measurement import Verdict
from tinylm.registry import METHODS
from tinylm.report.blocks import Table, literal
from tinylm.report.formatting import count, listed, percent, plural, significant
from tinylm.report.measurements import (
    compared,
    disturbances,
    hardware,
    measured,
    median,
    mib,
    rounds,
    times,
)
from tinylm.report.passages import passages

TEXT = passages(__file__)


def cost_table(result: Mapping[str, Any]) -> Table:
    """Return bytes, memory and times of every method."""
    tokens = result["step_tokens"]
    rows = []
    for row in result["methods"]:
        merged = row["generation_merged"]
        rows.append(
            (
                label(row),
                _kib(row),
                mib(row["peak_bytes"]),
                median(row["step"]),
                count(tokens / row["step"]["median_s"]),
                count(row["generation"]["tokens_per_second"]),
                "–" if merged is None else count(merged["tokens_per_second"]),
            )
        )
    timed = [row["step"] for row in result["methods"]]
    steps = [measured(timing) for timing in timed]
    return Table(
        "tab:ft-costs",
        TEXT.line("costs, table"),
        ("Method", "Disk, KiB", "Peak, MiB", "Step", "Tokens/s", "Generation", "Merged"),
        tuple(rows),
        "lrrrrrr",
        TEXT.line(
            "costs, table's note",
            rounds=rounds(*timed),
            tokens=plural(tokens, "token"),
            precision=literal(str(result["precision"])),
            new_tokens=plural(result["new_tokens"], "token"),
            hardware=hardware(result),
            disturbances=disturbances(steps),
        ),
    )


def cost_comment(result: Mapping[str, Any]) -> str:
    """Return what is saved on disk, in memory and in time, and what an unmerged adapter costs."""
    full, few = full_row(result), few_rows(result)
    small, large = (of(few, key=lambda row: float(row["bytes"])) for of in (min, max))
    lean = min(few, key=lambda row: float(row["peak_bytes"]))
    text = (
        f"*Costs.* The fully fine-tuned model takes {_kib(full)} KiB on disk, what the other "
        f"methods save from {_kib(small)} KiB ({noun(small)}) to {_kib(large)} KiB "
        f"({noun(large)}) ([[tab:ft-costs]]). "
    )
    saved = 1 - lean["peak_bytes"] / full["peak_bytes"]
    if saved > 0:
        text += (
            f"The peak memory of a training step is {mib(full['peak_bytes'])} MiB in full "
            f"fine-tuning and lowest with {noun(lean)}, {mib(lean['peak_bytes'])} MiB, "
            f"{percent(saved, 0)} less. "
        )
    else:
        text += "No method lowers the peak memory of a training step. "
    more = [row for row in few if row["peak_bytes"] > full["peak_bytes"]]
    if more:
        needed = listed([f"{noun(row)} ({mib(row['peak_bytes'])} MiB)" for row in more])
        text += f"More than in full fine-tuning is needed with {needed}. "
    text += _step_comment(full, few)
    return text + _generation_comment(full, few)


def _kib(row: Row) -> str:
    return significant(row["bytes"] / 2**10)


def _step_comment(full: Row, few: Sequence[Row]) -> str:
    ratios = {id(row): compared(row["step"], full["step"]) for row in few}
    faster = [row for row in few if ratios[id(row)].verdict is Verdict.LESS]
    slower = [row for row in few if ratios[id(row)].verdict is Verdict.MORE]
    text = ""
    if faster:
        best = min(faster, key=lambda row: ratios[id(row)].ratio)
        text += (
            f"A step takes less time than in full fine-tuning with {_of(faster, few)}"
            f"{f', the least with {noun(best)}' if len(faster) > 1 else ''} "
            f"({percent(ratios[id(best)].ratio, 0)} of the time). "
        )
    if slower:
        worst = max(slower, key=lambda row: ratios[id(row)].ratio)
        text += (
            f"A step takes more time than in full fine-tuning with {_of(slower, few)}"
            f"{f', the most with {noun(worst)}' if len(slower) > 1 else ''} "
            f"({times(ratios[id(worst)].ratio)} the time). "
        )
        reasons = [METHODS.load(row["method"]).slow_because for row in slower]
        text += "".join(f"{reason} " for reason in reasons if reason)
    if not faster and not slower:
        text += "The times of a step are not measurably different from that of full fine-tuning. "
    return text


def _of(rows: Sequence[Row], among: Sequence[Row]) -> str:
    if len(rows) == len(among):
        return "every method"
    return listed([noun(row) for row in rows])


def _generation_comment(full: Row, few: Sequence[Row]) -> str:
    pairs = [row for row in few if row["generation_merged"]]
    if not pairs:
        return "No adapter here can be merged."
    ratios = {id(row): compared(row["generation"], row["generation_merged"]) for row in pairs}
    faster = [row for row in pairs if ratios[id(row)].verdict is Verdict.MORE]
    if not faster:
        return "Merging made generation measurably faster in no case."
    most = max(faster, key=lambda row: ratios[id(row)].ratio)
    plain = full["generation"]
    same = [
        row for row in pairs if compared(row["generation_merged"], plain).verdict is Verdict.ALIKE
    ]
    text = (
        f"Merging makes generation faster for {listed([noun(row) for row in faster])}, most for "
        f"{noun(most)}, by a factor of {significant(ratios[id(most)].ratio)}"
    )
    if len(same) == len(pairs):
        return f"{text}; merged, none is measurably different from the plain model."
    return f"{text}."


def quantization_comment(result: Mapping[str, Any]) -> str:
    """Return the bytes of the matrices in 4 bits, or nothing if none is."""
    row = next((row for row in result["methods"] if row["quantized"]), None)
    if row is None:
        return ""
    held = row["quantized"]
    weights, codes, constants = held["weights"], held["code_bytes"], held["constant_bytes"]
    values = row["settings"]
    block = values["block_size"]
    expected = 32 / block
    formula = f"32/{block} = {significant(expected)}"
    if values["double_quantization"]:
        expected = 8 / block + 32 / (block * 256)
        formula = f"8/{block} + 32/({block} · 256) = {significant(expected)}"
    bits = 8 * constants / weights
    text = (
        f"*Memory of weights in 4 bits.* QLoRA keeps {count(weights)} weights of the base in "
        f"{count(codes)} bytes of codes, {significant(codes / weights)} bytes per weight, and "
        f"{count(constants)} bytes of constants, {significant(bits)} bits per weight, where the "
        f"formula gives {formula}"
    )
    if bits > 1.02 * expected:  # bytes are counted: what exceeds the formula is there
        text += (
            "; blocks that are not full, and the mean of each matrix, account for the difference"
        )
    total = codes + constants
    return (
        f"{text}. Together they take {mib(total)} MiB in place of {mib(held['float_bytes'])} MiB, "
        f"less by a factor of {significant(held['float_bytes'] / total)}. Embeddings, unembedding, "
        "norms and biases stay as they are."
    )
