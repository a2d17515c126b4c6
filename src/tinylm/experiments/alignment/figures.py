"""The figure of alignment: reward against divergence, and what a learned reward leads to."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tinylm.config import RunConfig
from tinylm.experiments.alignment.comparing import average, on_the_way, path, values
from tinylm.report.drawing import COLOURS, INK, MUTED, Drawn, new_figure, style

_MARKERS = "osD^vP"
_BEYOND = 1.15
"""How far the frontier is drawn beyond the farthest policy."""


def alignment_figure(result: Mapping[str, Any]) -> Figure:
    """Draw reward against KL with the frontier, and both rewards where one is learned.

    Args:
        result: of the experiment ``alignment``.
    """
    with style():
        figure = new_figure(height_cm=8.4)
        grid = figure.add_gridspec(2, 2, width_ratios=(1.25, 1))
        _methods(figure.add_subplot(grid[:, 0]), result)
        above = figure.add_subplot(grid[0, 1])
        below = figure.add_subplot(grid[1, 1], sharex=above)
        _learned(above, result, "learned", COLOURS[1])
        _learned(below, result, "true", COLOURS[0])
        above.set_title("Learned reward")
        low, high = above.get_ylim()
        above.set_ylim(low, high + 0.4 * (high - low))  # room for the legend
        above.legend(loc="upper left", ncols=2)
        below.set_title("True reward")
        above.tick_params(labelbottom=False)
        below.set_xlabel("optimizer steps")
    return figure


def _methods(axes: Axes, result: Mapping[str, Any]) -> None:
    farthest = max(
        max(kl for kl, _ in (*path(method), (max(values(method, "kl")), 0)))
        for method in result["methods"]
    )
    curve = np.array(result["frontier"])
    end = max(farthest, curve[-1, 0]) * _BEYOND
    axes.plot(
        [*curve[:, 0], end], [*curve[:, 1], curve[-1, 1]], color=INK, linewidth=1.2,
        label="frontier",
    )  # fmt: skip
    best = result["best_of"]
    axes.plot(
        [each["kl"] for each in best], [each["reward"] for each in best], linestyle="none",
        marker="x", markersize=4, color=MUTED, label="best of 2, 4, 8, 16",
    )  # fmt: skip
    for place, method in enumerate(result["methods"]):
        colour = COLOURS[place % len(COLOURS)]
        way = path(method)
        axes.plot(*zip(*way, strict=True), color=colour, linewidth=0.8, alpha=0.6)
        axes.plot(
            values(method, "kl"), values(method, "reward"), linestyle="none",
            marker=_MARKERS[place % len(_MARKERS)], markersize=3.5, markerfacecolor="white",
            markeredgecolor=colour,
        )  # fmt: skip
        axes.plot(
            average(method, "kl"), average(method, "reward"), linestyle="none",
            marker=_MARKERS[place % len(_MARKERS)], markersize=5, color=colour,
            label=method["label"],
        )  # fmt: skip
    axes.plot(0, result["start"]["reward"], marker="*", markersize=7, color=INK, linestyle="none",
              label="start")  # fmt: skip
    axes.set_xlim(left=-0.02 * end)
    axes.set_title("Reward by the rule")
    axes.set_xlabel("KL from the start (nats a response)")
    axes.set_ylabel("true reward")
    axes.legend(loc="lower right")


def _learned(axes: Axes, result: Mapping[str, Any], key: str, colour: str) -> None:
    steps, own, true = (on_the_way(result, name) for name in ("step", key, "true"))
    for place, (x, y, seen) in enumerate(zip(steps, own, true, strict=True)):
        best = seen.index(max(seen))
        marker = _MARKERS[place % len(_MARKERS)]
        axes.plot(x, y, color=colour, linewidth=0.9, alpha=0.7)
        axes.plot(
            x[best], y[best], linestyle="none", marker=marker, markersize=4.5, color=colour,
            label=f"seed {result['learned']['policies'][place]['seed']}",
        )  # fmt: skip
    if len(own) > 1:
        mean = [fmean(column) for column in zip(*own, strict=True)]
        axes.plot(steps[0], mean, color=INK, linewidth=1.2, linestyle="--", label="mean")


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figure of alignment."""
    yield "alignment", alignment_figure(result)
