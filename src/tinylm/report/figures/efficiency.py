"""Figures of time and memory: key-value cache, gradient accumulation, gradient checkpointing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from tinylm.report.figures import COLOURS, new_figure, shared_legend, style
from tinylm.report.figures.curves import smooth, smoothing_span

_FEWEST_TO_SMOOTH = 24
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (2, 1)), (0, (5, 1, 1, 1)))
"""Lines that differ in more than colour, for a grey printer."""
_MIB = 2**20


def growth_figure(growth: Mapping[str, Any]) -> Figure:
    """Draw the time of a step, and the total time, against length, with and without the cache.

    Args:
        growth: the part ``growth`` of the result of the experiment ``kv-cache``.
    """
    lengths = growth["lengths"]
    ways = (("with cache", growth["cached"]), ("without", growth["uncached"]))
    marker = "." if len(lengths) > 40 else "o"
    with style():
        figure = new_figure(height_cm=6.2)
        left, right = figure.subplots(1, 2)
        for i, (name, way) in enumerate(ways):
            look = {"color": COLOURS[i], "linestyle": _DASHES[i], "marker": marker}
            left.plot(lengths, way["step_ms"], **look)
            label = f"{name}; slope on the right {way['exponent'][0]:.2f}"
            right.plot(lengths, way["total_s"], label=label, **look)
        left.set_title("One step, whole batch")
        left.set_ylabel("milliseconds")
        left.set_ylim(bottom=0)
        left.set_xlim(left=0)
        right.set_title("All tokens up to a length")
        right.set_ylabel("seconds, logarithmic")
        right.set_xscale("log")
        right.set_yscale("log")
        _doubled(right, lengths)
        right.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0), numticks=20))
        right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        right.yaxis.set_minor_locator(NullLocator())
        for axes in (left, right):
            axes.set_xlabel("tokens")
            axes.grid(axis="y")
        shared_legend(figure, [right], len(ways))
    return figure


def accumulation_figure(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the training losses of all runs, against optimizer steps and against tokens.

    Args:
        runs: the part ``runs`` of the result of the experiment ``accumulation``.
    """
    runs = sorted(runs, key=lambda run: run["accumulation_steps"])
    with style():
        figure = new_figure(height_cm=6.8)
        left, right = figure.subplots(1, 2, sharey=True)
        later: list[float] = []
        for i, run in enumerate(runs):
            losses = [point["loss"] for point in run["curve"]]
            if not losses:
                continue
            if len(losses) >= _FEWEST_TO_SMOOTH:
                losses = list(smooth(losses, smoothing_span(len(losses))))
            look = {
                "color": COLOURS[i % len(COLOURS)],
                "linestyle": _DASHES[i % len(_DASHES)],
                "linewidth": 1.2,
                "label": f"k = {run['accumulation_steps']} (batch of {run['effective_batch']:,})",
            }
            left.plot([point["step"] for point in run["curve"]], losses, **look)
            right.plot([point["tokens"] for point in run["curve"]], losses, **look)
            later += losses[len(losses) // 20 :]
        left.set_title("Against optimizer steps")
        left.set_xlabel("optimizer steps")
        left.set_ylabel("training loss (nats per token)")
        right.set_title("Against tokens")
        right.set_xlabel("training tokens")
        for axes in (left, right):
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter(FuncFormatter(_short_count))
            axes.grid(axis="y")
        right.tick_params(labelleft=False)
        if later:
            margin = 0.05 * (max(later) - min(later)) or 0.1
            left.set_ylim(min(later) - margin, max(later) + margin)
        shared_legend(figure, [left], min(4, len(runs)))
    return figure


def checkpointing_figure(
    depth: Sequence[Mapping[str, Any]], context: Sequence[Mapping[str, Any]]
) -> Figure:
    """Draw peak memory against depth and saved memory against context, a line a segment length.

    Args:
        depth: rows of the experiment ``gradient-checkpointing`` that differ in depth.
        context: rows that differ in context length; empty: only the left half is drawn.
    """
    segments = sorted({row["segment"] for row in [*depth, *context]})
    with style():
        figure = new_figure(height_cm=6.4)
        axes = figure.subplots(1, 2 if context else 1, squeeze=False)[0]
        _memory_lines(axes[0], depth, segments, "num_layers", "peak_bytes")
        axes[0].set_title("Peak memory against depth")
        axes[0].set_xlabel("layers")
        if context:
            _memory_lines(axes[1], context, segments, "context_length", "saved_bytes")
            axes[1].set_title("Kept for the backward pass")
            axes[1].set_xlabel("context length (tokens)")
        shared_legend(figure, axes, min(5, len(segments)))
    return figure


def _memory_lines(
    axes: Axes, rows: Sequence[Mapping[str, Any]], segments: Sequence[int], x: str, y: str
) -> None:
    for i, segment in enumerate(segments):
        line = sorted((row[x], row[y] / _MIB) for row in rows if row["segment"] == segment)
        axes.plot(
            [place for place, _ in line], [size for _, size in line],
            color=COLOURS[i % len(COLOURS)], linestyle=_DASHES[i % len(_DASHES)],
            marker=_MARKERS[i % len(_MARKERS)],
            label=f"segments of {segment}" if segment else "without",
        )  # fmt: skip
    axes.set_ylabel("MiB")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    places = sorted({row[x] for row in rows})
    if len(places) <= 8:
        axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(axis="y")


def _doubled(axes: Axes, lengths: Sequence[int]) -> None:
    """Mark a logarithmic axis of lengths at a few of them, each about twice the one before."""
    marks = [lengths[0]]
    for length in lengths:
        if length >= 1.9 * marks[-1]:
            marks.append(length)
    axes.xaxis.set_major_locator(FixedLocator(marks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _short_count(value: float, _: object) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {unit}" if size > 1e3 or value >= 1e4 else f"{value:,.0f}"
    return f"{value:g}"
