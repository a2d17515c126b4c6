"""The figure of distillation: perplexity and BLEU of the students of each method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from tinylm.config import RunConfig
from tinylm.experiments.distillation.comparing import BLEU, LOSS, average, beside_alone, values
from tinylm.report.drawing import COLOURS, INK, MUTED, Drawn, new_figure, shared_legend, style

_TITLES = {LOSS: "Perplexity", **{key: f"BLEU by {name}" for key, name in BLEU.items()}}
_NAME = 16
"""Letters of a method's name on a line."""


def distillation_figure(result: Mapping[str, Any]) -> Figure:
    """Draw perplexity and both BLEUs, a row a method, with the teacher as a line.

    Args:
        result: of the experiment ``distillation``.
    """
    methods = result["methods"]
    with style():
        figure = new_figure(height_cm=3.6 + 0.85 * len(methods))
        panels = figure.subplots(1, len(_TITLES), sharey=True)
        for axes, (key, title) in zip(panels, _TITLES.items(), strict=True):
            _draw(axes, result, key)
            axes.set_title(title)
            axes.grid(axis="x")
        first = panels[0]
        first.set_yticks(range(len(methods)), [fill(method["label"], _NAME) for method in methods])
        first.set_ylim(len(methods) - 0.5, -0.5)
        shared_legend(figure, panels, 4)
    return figure


def _draw(axes: Axes, result: Mapping[str, Any], key: str) -> None:
    methods = result["methods"]
    alone, teacher = average(methods[0], key), result["teacher"][key]
    if key == LOSS:
        _logarithmic(axes)
        teacher = math.exp(teacher)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.axvline(teacher, color=COLOURS[2], linewidth=1.2, label="teacher")
    axes.axvline(alone, color=MUTED, linewidth=0.8, linestyle="--", label="mean of those alone")
    for place, method in enumerate(methods):
        students = [math.exp(x) if key == LOSS else x for x in values(method, key)]
        axes.plot(
            students, [place] * len(students), linestyle="none", marker="o", markersize=3,
            markerfacecolor="white", markeredgecolor=COLOURS[0], zorder=2,
            label=None if place else "a student",
        )  # fmt: skip
        middle = average(method, key)
        axes.plot(
            middle, place, linestyle="none", marker="D", markersize=4.5, color=INK, zorder=3,
            label=None if place else "mean of a method",
        )  # fmt: skip
        if place and len(students) > 1:
            low, high = beside_alone(result, method, key).ends
            ends = (
                [alone * math.exp(low), alone * math.exp(high)]
                if key == LOSS
                else [alone + low, alone + high]
            )
            axes.plot(ends, [place, place], color=INK, linewidth=1.4, zorder=1)
    axes.tick_params(axis="y", length=0)


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0), numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figure of distillation."""
    yield "distillation", distillation_figure(result)
