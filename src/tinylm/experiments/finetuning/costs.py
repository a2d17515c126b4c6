"""What fine-tuning costs, method by method: bytes, memory, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.finetuning.rows import Row, few_rows, full_row, shown, told
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
                shown(row),
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
        ("Trained", "Disk, KiB", "Peak, MiB", "Step", "Tokens/s", "Generation", "Merged"),
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
        f"*What it costs* is in [[tab:ft-costs]]. A fully tuned copy takes {_kib(full)} KiB; the "
        f"adapters take from {_kib(small)} ({told(small)}) to {_kib(large)} ({told(large)}). "
    )
    saved = 1 - lean["peak_bytes"] / full["peak_bytes"]
    if saved > 0:
        text += (
            f"A step of training everything peaks at {mib(full['peak_bytes'])} MiB, one of "
            f"{told(lean)} at {mib(lean['peak_bytes'])}, {percent(saved, 0)} less: frozen weights "
            "need neither gradients nor optimizer state, while activations stay. "
        )
    else:
        text += (
            "None lowers the peak of a training step: activations, which every method needs, are "
            "most of it. "
        )
    text += _step_comment(full, few)
    return text + _generation_comment(full, few)


def _kib(row: Row) -> str:
    return significant(row["bytes"] / 2**10)


def _step_comment(full: Row, few: Sequence[Row]) -> str:
    quicker = [row for row in few if _verdict(row, full) is Verdict.LESS]
    slower = [row for row in few if _verdict(row, full) is Verdict.MORE]
    text = ""
    if quicker:
        best = min(quicker, key=lambda row: float(row["step"]["median_s"]))
        ratio = full["step"]["median_s"] / best["step"]["median_s"]
        text += (
            f"With {_of(quicker, few)} a step takes less time than with training everything"
            f"{f', the least with {told(best)}' if len(quicker) > 1 else ''} ({times(ratio)} as "
            "fast). "
        )
    if slower:
        worst = max(slower, key=lambda row: float(row["step"]["median_s"]))
        ratio = worst["step"]["median_s"] / full["step"]["median_s"]
        text += (
            f"With {_of(slower, few)} it takes longer than with training everything"
            f"{f', the longest with {told(worst)}' if len(slower) > 1 else ''} ({times(ratio)} the "
            "time). "
        )
        reasons = [METHODS.load(row["method"]).slow_because for row in slower]
        text += "".join(f"{reason} " for reason in reasons if reason)
    if not quicker and not slower:
        text += "In time none is measurably different from training everything. "
    return text


def _verdict(row: Row, full: Row) -> Verdict:
    return compared(row["step"], full["step"]).verdict


def _of(rows: Sequence[Row], among: Sequence[Row]) -> str:
    if len(rows) == len(among):
        return "every method"
    return listed([told(row) for row in rows])


def _generation_comment(full: Row, few: Sequence[Row]) -> str:
    pairs = [row for row in few if row["generation_merged"]]
    if not pairs:
        return "No adapter here can be merged."
    gained = [
        row
        for row in pairs
        if compared(row["generation_merged"], row["generation"]).verdict is Verdict.LESS
    ]
    if not gained:
        return "Merging made generation measurably faster in no case."
    most = max(gained, key=_merging_ratio)
    plain = full["generation"]
    same = [
        row for row in pairs if compared(row["generation_merged"], plain).verdict is Verdict.ALIKE
    ]
    text = (
        f"Merging makes generation faster for {listed([told(row) for row in gained])}, most for "
        f"{told(most)}, {times(_merging_ratio(most))}"
    )
    if len(same) == len(pairs):
        return f"{text}; merged, none is measurably different from the plain model."
    return f"{text}."


def _merging_ratio(row: Row) -> float:
    return float(row["generation"]["median_s"] / row["generation_merged"]["median_s"])


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
        f"*Bytes in 4 bits.* QLoRA keeps {count(weights)} weights of the base in "
        f"{count(codes)} bytes of codes, {significant(codes / weights)} a weight, and "
        f"{count(constants)} bytes of constants, {significant(bits)} bits a weight, where the "
        f"formula gives {formula}"
    )
    if bits > 1.02 * expected:  # bytes are counted: what exceeds the formula is there
        text += "; blocks that are not full, and the mean of each matrix, make the difference"
    total = codes + constants
    return (
        f"{text}. Together they take {mib(total)} MiB in place of {mib(held['float_bytes'])}, "
        f"{times(held['float_bytes'] / total)} less. Embeddings, output layer, norms and biases "
        "stay as they are."
    )
