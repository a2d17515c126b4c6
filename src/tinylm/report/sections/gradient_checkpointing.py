"""Gradient checkpointing: memory saved against time spent."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.report.blocks import Block, Equation, Figure, Heading, Paragraph, Table, literal
from tinylm.report.formatting import count, duration, listed, percent, plural, significant
from tinylm.report.inputs import ReportInputs
from tinylm.report.measurements import hardware, median, mib, order, rounds, spread

_THEORY = 4 / 3
_NEAR = 0.05
"""Relative difference from theory within which a measured ratio agrees with it."""

Row = Mapping[str, Any]


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``gradient-checkpointing``."""
    found = results.results.get("gradient-checkpointing")
    if found is None or not found["depth"]:
        return []
    depth, context = found["depth"], found["context"]
    made: list[Block] = [
        Heading(1, "Gradient checkpointing", "sec:gradient-checkpointing"),
        *_technique(),
        Paragraph(_setting(found)),
        _table(found, "tab:checkpointing-depth", "num_layers", "Layers", depth),
    ]
    if results.has_figure("figures/gradient-checkpointing.svg"):
        made.append(
            Figure(
                "fig:gradient-checkpointing",
                "figures/gradient-checkpointing.svg",
                "Memory of a training step. Left: peak against the number of layers"
                f"{_fixed(depth)}. Right: what the forward pass keeps, against the context length"
                f"{_fixed(context, 'layers')}.",
                "Peak memory against depth and saved memory against context length, with and "
                "without gradient checkpointing.",
            )
        )
    made += [Paragraph(depth_comment(depth)), Paragraph(time_comment([*depth, *context]))]
    if context:
        made += [
            _table(found, "tab:checkpointing-context", "context_length", "Context", context),
            Paragraph(context_comment(context)),
        ]
    return made


def _technique() -> list[Block]:
    return [
        Paragraph(
            "The backward pass needs the activations of the forward pass. Plain training keeps "
            "them all; gradient checkpointing [[chen2016]] cuts the $L$ layers into segments of "
            "$k$, keeps only the *input* of each segment, and runs a segment forward once more, "
            "from its input, when the backward pass arrives at it. If a layer's input takes $a$ "
            "bytes and all that is kept inside a layer $b$, the layers need about"
        ),
        Equation('M(k) = L/k a + k b "  instead of  " L b,'),
        Paragraph(
            "the inputs of all segments and the inside of one. This is least near $k = sqrt(L a "
            "slash b)$, which is $sqrt(L)$ in the count of Chen et al., where $a = b$; in a "
            "Transformer layer $b$ is many times $a$, which favours short segments. The price is "
            "one more forward pass. If the backward pass costs twice the forward, a step takes "
            "$(1 + 1 + 2) slash (1 + 2) = 4 slash 3$ of its time, and somewhat less as far as "
            "embedding, output layer and optimizer are not run again. The state of the random "
            "numbers and of autocast is restored for the second run, so that dropout draws the "
            "same zeros and the gradients are the same bits."
        ),
    ]


def _setting(found: Mapping[str, Any]) -> str:
    tables = ["[[tab:checkpointing-depth]]"]
    tables += ["[[tab:checkpointing-context]]"] * bool(found["context"])
    shown = "shows" if len(tables) == 1 else "show"
    how = (
        "the greatest number of bytes of tensors alive at once"
        if found["measure"] == "live tensor bytes"
        else f"measured with `{literal(str(found['measure']))}`"
    )
    return (
        f"{listed(tables)} {shown} what a training step takes in time and memory "
        f"({literal(str(found['precision']))}; the weights are random, since neither depends on "
        f"them). Peak memory is {how}."
    )


def _fixed(rows: Sequence[Row], what: str = "context") -> str:
    if not rows:
        return ""
    if what == "layers":
        tokens = {row["batch_size"] * row["context_length"] for row in rows}
        held = f", batches of {count(max(tokens))} tokens" if len(tokens) == 1 else ""
        return f" ({plural(rows[0]['num_layers'], 'layer')}{held})"
    return (
        f" (batches of {plural(rows[0]['batch_size'], 'window')} of "
        f"{count(rows[0]['context_length'])} tokens)"
    )


def _plain(rows: Sequence[Row], row: Row) -> Row | None:
    """Return the row of the same sizes without recomputation."""
    sizes = ("num_layers", "context_length", "batch_size")
    same = (r for r in rows if not r["segment"] and all(r[key] == row[key] for key in sizes))
    return next(same, None)


def _table(
    found: Mapping[str, Any], key: str, varied: str, header: str, rows: Sequence[Row]
) -> Table:
    cells = []
    before = None
    for row in sorted(rows, key=lambda row: (row[varied], row["segment"])):
        plain = _plain(rows, row)
        size = [count(row[varied]), count(row["batch_size"])]
        cells.append(
            (
                *(size if row[varied] != before else ["", ""]),
                str(row["segment"]) if row["segment"] else "none",
                mib(row["state_bytes"]),
                mib(row["saved_bytes"]),
                mib(row["peak_bytes"]),
                f"{row['peak_bytes'] / plain['peak_bytes']:.2f}" if plain else "–",
                median(row["step"]),
                f"{_ratio(row, plain):.2f}" if plain else "–",
                spread(row["step"]),
                duration(row["seconds_per_epoch"]),
            )
        )
        before = row[varied]
    fixed = (
        f"contexts of {plural(rows[0]['context_length'], 'token')}"
        if varied == "num_layers"
        else plural(rows[0]["num_layers"], "layer")
    )
    return Table(
        key,
        f"Memory in MiB and time of a training step, {fixed}; “rel.” is relative to the row "
        "without recomputation.",
        (header, "Batch", "Segment", "State", "Saved", "Peak", "rel.", "Step", "rel.", "Spread",
         "Epoch"),
        tuple(cells),
        "rrrrrrrrrrr",
        "Segment: layers whose input alone is kept; State: weights, gradients and optimizer state; "
        "Saved: kept by the forward pass for the backward pass. Step: "
        f"{rounds(rows[0]['step'])}. Measured on {hardware(found)}.",
    )  # fmt: skip


def _ratio(row: Row, plain: Row) -> float:
    return float(row["step"]["median_s"] / plain["step"]["median_s"])


def slopes(rows: Sequence[Row], key: str) -> dict[int, float]:
    """Return segment -> bytes that one more layer costs, by least squares over the depths."""
    made: dict[int, float] = {}
    for segment in sorted({row["segment"] for row in rows}):
        points = [(row["num_layers"], row[key]) for row in rows if row["segment"] == segment]
        if len({layers for layers, _ in points}) > 1:
            made[segment] = statistics.linear_regression(*zip(*points, strict=True)).slope
    return made


def depth_comment(rows: Sequence[Row]) -> str:
    """Return what a layer costs with and without recomputation, and which segment is best."""
    deepest = max(row["num_layers"] for row in rows)
    here = sorted((row for row in rows if row["num_layers"] == deepest),
                  key=lambda row: row["segment"])  # fmt: skip
    least = min(here, key=lambda row: row["peak_bytes"])
    plain = _plain(rows, least)
    text = "*Memory against depth.* "
    peak = slopes(rows, "peak_bytes")
    if 0 in peak and len(peak) > 1:
        others = [f"{mib(slope)} MiB {_segments(segment)}" for segment, slope in peak.items()
                  if segment]  # fmt: skip
        text += (
            "Each further layer, its weights and their gradients and optimizer state included, "
            f"adds {mib(peak[0])} MiB to the peak without recomputation, and {listed(others)}. "
        )
    if plain is None or plain is least:
        return text + (
            f"At {plural(deepest, 'layer')} no segment length lowers the peak: other parts of the "
            "step need more than the layers do."
        )
    text += (
        f"At {plural(deepest, 'layer')} the peak is lowest {_segments(least['segment'])}, "
        f"{mib(least['peak_bytes'])} MiB against {mib(plain['peak_bytes'])} MiB, or "
        f"{percent(1 - least['peak_bytes'] / plain['peak_bytes'], 0)} less"
    )
    saved = slopes(rows, "saved_bytes")
    if not 0 < saved.get(1, 0) < saved.get(0, 0):
        return f"{text}."
    best = (deepest * saved[1] / saved[0]) ** 0.5
    return (
        f"{text}. For the formula, the saved bytes give $a$ = {mib(saved[1])} MiB for a layer's "
        f"input and $b$ = {mib(saved[0])} MiB for its inside, so the least memory is expected near "
        f"$k$ = {best:.1f}{' (that is, one layer a segment)' if best < 1 else ''}, "
        f"and near {deepest**0.5:.1f} if they were equal."
    )


def _segments(segment: int) -> str:
    return f"with segments of {plural(segment, 'layer')}"


def time_comment(rows: Sequence[Row]) -> str:
    """Return the measured price in time beside the theoretical one."""
    pairs = [(row, plain) for row in rows if row["segment"] and (plain := _plain(rows, row))]
    if not pairs:
        return "*Time.* Nothing was measured beside training without recomputation."
    ratios = [_ratio(row, plain) for row, plain in pairs]
    middle = statistics.median(ratios)
    text = (
        f"*Time.* With recomputation a step takes {significant(min(ratios))} to "
        f"{significant(max(ratios))} times as long (median {significant(middle)}). "
    )
    unclear = sum(order(row["step"], plain["step"]) == 0 for row, plain in pairs)
    if unclear:
        text += (
            f"In {unclear} of {plural(len(pairs), 'comparison')} the ranges with and without "
            "overlap. "
        )
    if middle < 1:
        return text + (
            "That is *quicker* than without, against the theory: on this machine the cost of "
            "getting and filling memory outweighs that of the second forward pass."
        )
    if abs(middle / _THEORY - 1) <= _NEAR:
        return text + "That agrees with the 4/3 expected."
    if middle < _THEORY:
        return text + (
            "That is below the 4/3 expected of the layers alone, as it must be where other parts "
            "of the step, which are not repeated, take a share of the time."
        )
    return text + (
        "That is above the 4/3 expected: here the backward pass costs less than twice the "
        "forward pass, or saving and restoring the state costs time of its own."
    )


def context_comment(rows: Sequence[Row]) -> str:
    """Return how what is kept grows with the context, with and without recomputation."""
    text = "*Memory against context.* "
    lengths = sorted({row["context_length"] for row in rows})
    if len(lengths) < 2:
        return f"{text}Only one context length was measured."
    ends = {
        segment: [next((r for r in rows if (r["context_length"], r["segment"]) == (n, segment)),
                       None) for n in (lengths[0], lengths[-1])]
        for segment in sorted({row["segment"] for row in rows})
    }  # fmt: skip
    parts, growths = [], {}
    for segment, (short, long) in ends.items():
        if short is None or long is None:
            continue
        growths[segment] = long["saved_bytes"] / short["saved_bytes"]
        way = _segments(segment) if segment else "without recomputation"
        parts.append(f"{significant(growths[segment])} times {way}")
        first, last = short, long
    if not growths:
        return f"{text}No setting was measured at both ends of the context lengths."
    tokens = (last["context_length"] * last["batch_size"]) / (
        first["context_length"] * first["batch_size"]
    )
    held = "with the same number of tokens in a batch" if abs(tokens - 1) < 0.01 else (
        f"with {significant(tokens)} times the tokens in a batch"
    )  # fmt: skip
    text += (
        f"From {count(lengths[0])} to {count(lengths[-1])} tokens of context, {held}, what the "
        f"forward pass keeps becomes {listed(parts)}"
    )
    if 0 not in growths:
        return f"{text}."
    if growths[0] > 1.05 * tokens:
        text += (
            ". Without recomputation it grows faster than the tokens: the attention patterns hold "
            "one number for every pair of tokens in a window, and so grow with its square"
        )
    else:
        text += (
            ". Without recomputation it grows no faster than the tokens: at these lengths the "
            "attention patterns, of one number for every pair of tokens in a window, hardly count"
        )
    kept = [growths[segment] for segment in growths if segment]
    if kept and max(kept) <= 1.05 * tokens and growths[0] > 1.05 * tokens:
        text += (
            ". With it they are not kept, and memory between the passes grows with the tokens only"
        )
    return f"{text}."
