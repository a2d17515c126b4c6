"""The figure of how cost grows with one size at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from tinylm.config import RunConfig
from tinylm.report.drawing import COLOURS, Drawn, new_figure, shared_legend, style

_NAMES = {
    "batch_size": "batch (windows)",
    "context_length": "context (tokens)",
    "num_layers": "layers",
    "vocab_size": "vocabulary",
}
_MIB = 2**20


def cost_figure(growth: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw time and peak memory of a step, measured and planned, one column per size.

    Args:
        growth: the part ``growth`` of the result of the experiment ``efficiency``.
    """
    with style():
        figure = new_figure(height_cm=8.2)
        axes = figure.subplots(2, len(growth), sharey="row", sharex="col", squeeze=False)
        for column, series in enumerate(growth):
            rows, name = series["rows"], series["varied"]
            sizes = [row[name] for row in rows]
            times = [1000 * row["measured"]["step"] for row in rows]
            # FLOPs as milliseconds at the speed of the largest size.
            rate = times[-1] / rows[-1]["planned"]["step"]
            _lines(axes[0][column], sizes, times, [rate * row["planned"]["step"] for row in rows])
            _lines(
                axes[1][column],
                sizes,
                *(
                    [row[way]["peak_bytes"] / _MIB for row in rows]
                    for way in ("measured", "planned")
                ),
            )
            axes[1][column].set_xlabel(_NAMES[name])
        axes[0][0].set_ylabel("step, milliseconds")
        axes[1][0].set_ylabel("peak memory, MiB")
        shared_legend(figure, [axes[0][0]], 2)
    return figure


def _lines(
    axes: Axes, sizes: Sequence[int], measured: Sequence[float], planned: Sequence[float]
) -> None:
    axes.plot(sizes, measured, color=COLOURS[0], marker="o", label="measured")
    axes.plot(sizes, planned, color=COLOURS[1], linestyle=(0, (5, 1.5)), label="planned")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0), numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y")


def _short(value: float, _: object) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figure of growing costs."""
    if result["growth"]:
        yield "efficiency", cost_figure(result["growth"])
