"""The figure of all ways of compression: perplexity against bytes and against time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from tinylm.config import RunConfig
from tinylm.experiments.compression.comparing import (
    MASKED,
    MIXED,
    MOST,
    REMOVED,
    ROUNDED,
    WHOLE,
    WISHES,
    Row,
    frontier,
    increase,
    num_bytes,
    recommended,
    shown,
    token_seconds,
)
from tinylm.report.axes import log_ticks
from tinylm.report.drawing import COLOURS, INK, MUTED, Drawn, new_figure, shared_legend, style

_LOOKS = {
    WHOLE: ("whole model", COLOURS[6], "D"),
    ROUNDED: ("one width", COLOURS[0], "o"),
    MIXED: ("mixed widths", COLOURS[2], "s"),
    REMOVED: ("parts removed", COLOURS[1], "^"),
    MASKED: ("masked", COLOURS[3], "X"),
}
_LINEAR = 0.5
"""Per cent below which the axis is linear, since differences about 0 have no logarithm."""


def compression_figure(result: Mapping[str, Any]) -> Figure:
    """Draw the increase of perplexity against bytes and against the time of decoding.

    Args:
        result: of the experiment ``compression``.
    """
    rows = shown(result)
    tokens = result["decoded"]
    with style():
        figure = new_figure(height_cm=7.6)
        left, right = figure.subplots(1, 2, sharey=True)
        _panel(left, result, rows, num_bytes, 1 / 2**20)
        _panel(right, result, rows, token_seconds, 1e3 / tokens)
        left.set_xscale("log")
        log_ticks(left, "x")
        left.set_xlabel("weights (MiB)")
        right.set_xlabel("decoding (ms a token)")
        left.set_ylabel("increase of perplexity (%)")
        left.set_yscale("symlog", linthresh=_LINEAR, linscale=0.4)
        least = min(100 * increase(result, row) for row in rows)
        left.set_ylim(bottom=min(1.5 * least, -_LINEAR / 2), top=130 * MOST)
        marks = [0, *(m for m in (0.5, 1, 2, 5, 10, 20, 50, 100) if m <= 100 * MOST)]
        left.set_yticks(marks)
        left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        left.yaxis.set_minor_locator(NullLocator())
        for axes in (left, right):
            axes.grid(axis="y")
        shared_legend(figure, [left], 5)
    return figure


def _panel(
    axes: Axes,
    result: Mapping[str, Any],
    rows: list[Row],
    cost: Callable[[Row], float],
    unit: float,
) -> None:
    for kind, (label, colour, mark) in _LOOKS.items():
        own = [row for row in rows if row["kind"] == kind]
        if own:
            axes.plot(
                [unit * cost(row) for row in own], [100 * increase(result, row) for row in own],
                linestyle="", marker=mark, color=colour, label=label, markersize=4.5,
                markerfacecolor="none" if kind == ROUNDED else colour,
            )  # fmt: skip
    best = frontier(result, rows, cost)
    axes.plot(
        [unit * cost(row) for row in best], [100 * increase(result, row) for row in best],
        color=MUTED, linewidth=0.8, zorder=0, drawstyle="steps-post",
    )  # fmt: skip
    for times, more in WISHES:
        row = recommended(result, times, more)
        if row is not None:
            axes.plot(
                unit * cost(row), 100 * increase(result, row), marker="*", markersize=11,
                color="none", markeredgecolor=INK, markeredgewidth=0.8,
            )  # fmt: skip


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figure of all ways of compression."""
    yield "compression", compression_figure(result)
