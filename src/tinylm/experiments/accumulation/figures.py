"""The figure of gradient accumulation: training losses, against steps and against tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tinylm.config import RunConfig
from tinylm.report.axes import DASHES, smooth, smoothing_span
from tinylm.report.drawing import COLOURS, Drawn, new_figure, shared_legend, style

_FEWEST_TO_SMOOTH = 24


def smoothed_over(run: Mapping[str, Any]) -> int:
    """Return over how many log entries the losses of a training are averaged; 1: they are not."""
    entries = len(run["curve"])
    return smoothing_span(entries) if entries >= _FEWEST_TO_SMOOTH else 1


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
            if (span := smoothed_over(run)) > 1:
                losses = list(smooth(losses, span))
            look = {
                "color": COLOURS[i % len(COLOURS)],
                "linestyle": DASHES[i % len(DASHES)],
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


def _short_count(value: float, _: object) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {unit}" if size > 1e3 or value >= 1e4 else f"{value:,.0f}"
    return f"{value:g}"


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figure of the losses, if any were logged."""
    if any(run["curve"] for run in result["runs"]):
        yield "accumulation", accumulation_figure(result["runs"])
