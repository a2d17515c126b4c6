"""The figure of gradient checkpointing: peak memory against depth, kept memory against context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from tinylm.config import RunConfig
from tinylm.report.axes import DASHES
from tinylm.report.drawing import COLOURS, Drawn, new_figure, shared_legend, style

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_MIB = 2**20


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
            color=COLOURS[i % len(COLOURS)], linestyle=DASHES[i % len(DASHES)],
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


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figure of memory."""
    if result["depth"]:
        yield "gradient-checkpointing", checkpointing_figure(result["depth"], result["context"])
