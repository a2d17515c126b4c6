"""Gradient checkpointing: memory saved against time spent."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import Verdict
from tinylm.report.blocks import Block, Figure, Heading, Paragraph, Table, literal
from tinylm.report.formatting import count, duration, listed, percent, plural, significant
from tinylm.report.measurements import (
    compared,
    disturbances,
    hardware,
    measured,
    median,
    mib,
    rounds,
    spread,
)
from tinylm.report.passages import passages

TEXT = passages(__file__)
_THEORY = 4 / 3
"""Time of a step with recomputation over that without, if nothing but the layers took time."""
_SAME = 0.05
"""Relative difference of growths of memory within which they count as the same: counted
exactly, they have no scatter."""

_OTHERWISE = {
    Verdict.LESS: "measurably shorter",
    Verdict.ALIKE: "not measurably different",
    Verdict.UNKNOWN: "that could not be measured",
}
"""Verdict on a time with recomputation that is not longer."""

Row = Mapping[str, Any]


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``gradient-checkpointing``."""
    result = results.results.get("gradient-checkpointing")
    if result is None or not result["depth"]:
        return []
    depth, context = result["depth"], result["context"]
    section: list[Block] = [
        Heading(1, "Gradient checkpointing", "sec:gradient-checkpointing"),
        *TEXT.blocks("technique"),
        Paragraph(_setting(result)),
        _table(result, "tab:checkpointing-depth", "num_layers", "Layers", depth),
        Paragraph(depth_comment(depth)),
    ]
    if results.has_figure("figures/gradient-checkpointing.svg"):
        section[-1] = Paragraph(" ".join([depth_comment(depth), TEXT.line("before the figure")]))
        section.append(
            Figure(
                "fig:gradient-checkpointing",
                "figures/gradient-checkpointing.svg",
                TEXT.line("figure", depth=_fixed(depth), context=_fixed(context, "layers")),
                TEXT.line("figure, without seeing it"),
            )
        )
    section.append(Paragraph(time_comment([*depth, *context])))
    if context:
        section += [
            Paragraph(context_comment(context)),
            _table(result, "tab:checkpointing-context", "context_length", "Context", context),
        ]
    return section


def _setting(result: Mapping[str, Any]) -> str:
    tables = ["[[tab:checkpointing-depth]]"]
    if result["context"]:
        tables.append("[[tab:checkpointing-context]]")
    shown = "show" if result["context"] else "shows"
    how = (
        "the greatest number of bytes of tensors alive at once"
        if result["measure"] == "live tensor bytes"
        else f"that of `{literal(str(result['measure']))}`"
    )
    return (
        f"{listed(tables)} {shown} what a training step takes in time and memory "
        f"({literal(str(result['precision']))}; the weights are random, since neither depends on "
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
    result: Mapping[str, Any], key: str, varied: str, header: str, rows: Sequence[Row]
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
                f"{compared(row['step'], plain['step']).ratio:.2f}" if plain else "–",
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
    columns = (
        TEXT.line("table's note, columns of the first")
        if varied == "num_layers"
        else TEXT.line("table's note, columns of the second")
    )
    return Table(
        key,
        TEXT.line("table", fixed=fixed),
        (header, "Batch", "Segment", "State", "Saved", "Peak", "Step", "Spread", "Epoch"),
        tuple(cells),
        "rrrrrrrrrrr",
        TEXT.line(
            "table's note",
            columns=columns,
            rounds=rounds(*(row["step"] for row in rows)),
            hardware=hardware(result),
            disturbances=disturbances(measured(row["step"]) for row in rows),
        ),
        spans=(1, 1, 1, 1, 1, 2, 2, 1, 1),
    )  # fmt: skip


def slopes(rows: Sequence[Row], key: str) -> dict[int, float]:
    """Return segment -> bytes that a further layer costs, by least squares over the depths."""
    by_segment: dict[int, float] = {}
    for segment in sorted({row["segment"] for row in rows}):
        points = [(row["num_layers"], row[key]) for row in rows if row["segment"] == segment]
        if len({layers for layers, _ in points}) > 1:
            by_segment[segment] = statistics.linear_regression(*zip(*points, strict=True)).slope
    return by_segment


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
        ways = [f"{mib(slope)} MiB {_way(segment)}" for segment, slope in peak.items()]
        text += (
            "Each further layer, with its weights, gradients and optimizer state, adds to the peak "
            f"{listed(ways)}. "
        )
    if plain is None or plain is least:
        return f"{text}At {plural(deepest, 'layer')} no segment length measured lowers the peak."
    text += (
        f"At {plural(deepest, 'layer')} the peak is lowest {_way(least['segment'])}, "
        f"{mib(least['peak_bytes'])} MiB against {mib(plain['peak_bytes'])} MiB, or "
        f"{percent(1 - least['peak_bytes'] / plain['peak_bytes'], 0)} less"
    )
    saved = slopes(rows, "saved_bytes")
    if not 0 < saved.get(1, 0) < saved.get(0, 0):
        return f"{text}."
    best = (deepest * saved[1] / saved[0]) ** 0.5
    return (
        f"{text}. By the saved bytes, $a$ in the formula is {mib(saved[1])} MiB for a layer's "
        f"input and $b$ is {mib(saved[0])} MiB for its inside, so the least memory is expected "
        f"near $k = {best:.1f}${' (that is, with one layer per segment)' if best < 1 else ''}; if "
        f"$a$ and $b$ were equal, it would be near {deepest**0.5:.1f}."
    )


def _way(segment: int) -> str:
    if not segment:
        return "without recomputation"
    return f"with segments of {plural(segment, 'layer')}"


def time_comment(rows: Sequence[Row]) -> str:
    """Return the measured cost in time, compared with the theoretical one."""
    # A size that both series hold is one comparison.
    sizes = ("num_layers", "context_length", "batch_size", "segment")
    pairs = {
        tuple(row[key] for key in sizes): compared(row["step"], plain["step"])
        for row in rows
        if row["segment"] and (plain := _plain(rows, row))
    }
    if not pairs:
        return "*Time.* No training without recomputation was measured for comparison."
    ratios = [pair.ratio for pair in pairs.values()]
    text = (
        f"*Time.* With recomputation a step takes {significant(min(ratios))} to "
        f"{significant(max(ratios))} times as long (median of "
        f"{plural(len(ratios), 'comparison')}: {significant(statistics.median(ratios))}). "
    )
    verdicts = Counter(pair.verdict for pair in pairs.values())
    others = [f"{verdicts[verdict]} {words}" for verdict, words in _OTHERWISE.items()
              if verdicts[verdict]]  # fmt: skip
    if others:
        text += f"Not all of these times are measurably longer: {listed(others)}. "
    below = sum(pair.high < _THEORY for pair in pairs.values())
    above = sum(pair.low > _THEORY for pair in pairs.values())
    if not below and not above:
        return f"{text}No ratio is measurably different from the expected 4/3."
    sides = [(below, "below"), (above, "above")]
    counted = [f"{number} {'is' if number == 1 else 'are'} measurably {side}"
               for number, side in sides if number]  # fmt: skip
    text += f"Of the {plural(len(ratios), 'ratio')}, {listed(counted)} the expected 4/3."
    if below:
        text += (
            " A ratio between 1 and 4/3 is expected where other parts of the step, which are not "
            "repeated, take a share of the time."
        )
    if above:
        text += (
            " A higher ratio is possible if the backward pass costs less than twice the forward "
            "pass, or if saving and restoring the states takes time of its own."
        )
    return text


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
        parts.append(f"{significant(growths[segment])} times as large {_way(segment)}")
        first, last = short, long
    if not growths:
        return f"{text}No setting was measured at both ends of the context lengths."
    tokens = (last["context_length"] * last["batch_size"]) / (
        first["context_length"] * first["batch_size"]
    )
    times_as_many = significant(tokens)  # not quite 1 where a batch cannot be divided
    held = (
        "with the same number of tokens in a batch"
        if times_as_many == "1.00"
        else f"with {times_as_many} times the tokens in a batch"
    )
    text += (
        f"From {count(lengths[0])} to {count(lengths[-1])} tokens of context, {held}, what the "
        f"forward pass keeps becomes {listed(parts)}"
    )
    if 0 not in growths:
        return f"{text}."
    if growths[0] > (1 + _SAME) * tokens:
        text += (
            ". Without recomputation it grows by more than the number of tokens: the attention "
            "patterns hold one number per pair of tokens in a window, so that for a fixed number "
            "of tokens they grow in proportion to the context"
        )
    else:
        text += (
            ". Without recomputation it grows by no more than the number of tokens: at these "
            "lengths the attention patterns, with one number per pair of tokens in a window, are a "
            "small part of it"
        )
    kept = [growths[segment] for segment in growths if segment]
    if kept and max(kept) <= (1 + _SAME) * tokens < growths[0]:
        text += (
            ". With recomputation the patterns are not kept, and what is kept grows by no more "
            "than the number of tokens"
        )
    return f"{text}."
