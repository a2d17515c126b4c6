"""The figure of the key-value cache: time of a step, and of all tokens up to a length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from tinylm.config import RunConfig
from tinylm.report.axes import DASHES
from tinylm.report.drawing import COLOURS, Drawn, new_figure, shared_legend, style


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
            look = {"color": COLOURS[i], "linestyle": DASHES[i], "marker": marker}
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


def _doubled(axes: Axes, lengths: Sequence[int]) -> None:
    """Mark a logarithmic axis of lengths at a few of them, each about twice the one before."""
    marks = [lengths[0]]
    for length in lengths:
        if length >= 1.9 * marks[-1]:
            marks.append(length)
    axes.xaxis.set_major_locator(FixedLocator(marks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figure of growing costs."""
    yield "kv-cache", growth_figure(result["growth"])
