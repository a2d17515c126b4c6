"""Figures of fine-tuning: perplexity against parameters, ranks and dimensions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from tinylm.config import RunConfig
from tinylm.experiments.finetuning.rows import NAMES
from tinylm.report.axes import log_ticks
from tinylm.report.drawing import (
    COLOURS,
    INK,
    MUTED,
    Drawn,
    new_figure,
    shared_legend,
    style,
)
from tinylm.report.lettering import POINTS_A_CM, text_width

_LABEL = 7.0
"""Size of the letters of a label, in points."""
_LINE = 1.5
"""Height that a label takes, in sizes of its letters."""
_DOT = 0.008
"""Half the width of a point, as a share of the axes' width."""
_SHARE = 0.9
"""Of the gain of full fine-tuning that counts as reaching it."""


def finetuning_figure(result: Mapping[str, Any]) -> Figure:
    """Draw the perplexity on the target against the parameters trained, every method named.

    Args:
        result: the result of the experiment ``finetuning``.
    """
    rows = result["methods"]
    with style():
        figure = new_figure(height_cm=8.0)
        axes = figure.subplots()
        series = (
            ("LoRA by rank", result["ranks"], "trained", COLOURS[0]),
            ("SAID by dimension", result["dimensions"]["rows"], "dimension", COLOURS[2]),
        )
        for label, several, key, colour in series:
            if len(several) > 1:
                line = sorted((row[key], _perplexity(row["target_loss"])) for row in several)
                axes.plot(*zip(*line, strict=True), color=colour, linewidth=0.9, marker=".",
                          linestyle=(0, (3, 1.5)), label=label)  # fmt: skip
        points = [(row["trained"], _perplexity(row["target_loss"])) for row in rows]
        for row, (x, y) in zip(rows, points, strict=True):
            axes.plot(x, y, linestyle="none", marker="o", markersize=5.5,
                      color=COLOURS[1] if row["method"] == "full" else INK)  # fmt: skip
        before = _perplexity(result["before"]["target_loss"])
        axes.set_xscale("log")
        axes.set_yscale("log")
        _spread(axes, points, before)
        axes.axhline(before, color=MUTED, linewidth=1, linestyle=(0, (4, 2)), label="base model")
        axes.set_xlabel("trained parameters, logarithmic")
        axes.set_ylabel("perplexity, logarithmic")
        axes.xaxis.set_major_locator(LogLocator(10))
        axes.xaxis.set_major_formatter(FuncFormatter(_short))
        axes.xaxis.set_minor_locator(NullLocator())
        log_ticks(axes)
        axes.grid()
        shared_legend(figure, [axes], 3)
        figure.draw_without_rendering()  # the panel gets its place, from which places are counted
        names = [NAMES.get(row["name"], row["name"]) for row in rows]
        places = _label_places(axes, points, names)
        for name, point, place in zip(names, points, places, strict=True):
            axes.annotate(
                name, point, place, textcoords="axes fraction",
                fontsize=_LABEL, va="center", parse_math=False,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
                ha="left" if place[0] > _fraction(axes, point)[0] else "right",
                arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "shrinkB": 3,
                            "shrinkA": 1},
            )  # fmt: skip
    return figure


def ranks_figure(result: Mapping[str, Any]) -> Figure:
    """Draw the perplexity on the target against rank, and against the dimension of a subspace.

    Args:
        result: the result of the experiment ``finetuning``.
    """
    dimensions = bool(result["dimensions"]["rows"])
    before = _perplexity(result["before"]["target_loss"])
    full = next(row for row in result["methods"] if row["method"] == "full")
    after = _perplexity(full["target_loss"])
    with style():
        figure = new_figure(height_cm=6.4)
        left, *right = figure.subplots(1, 1 + dimensions, squeeze=False)[0]
        ways = (("LoRA, trained once per rank", result["ranks"], "-", "o"),
                ("DyLoRA, trained once", result["dylora"], (0, (5, 1.5)), "s"))  # fmt: skip
        for i, (label, rows, dashes, marker) in enumerate(ways):
            if rows:
                line = sorted((row["rank"], _perplexity(row["target_loss"])) for row in rows)
                left.plot(*zip(*line, strict=True), color=COLOURS[i], linestyle=dashes,
                          marker=marker, label=label)  # fmt: skip
        left.set_xlabel("rank, logarithmic")
        _powers(left, [row["rank"] for row in (*result["ranks"], *result["dylora"])])
        if right:
            rows = sorted(result["dimensions"]["rows"], key=lambda row: int(row["dimension"]))
            right[0].plot(
                [row["dimension"] for row in rows],
                [_perplexity(row["target_loss"]) for row in rows],
                color=COLOURS[2], marker="^", label="SAID",
            )  # fmt: skip
            right[0].set_xlabel("dimensions, logarithmic")
            _powers(right[0], [row["dimension"] for row in rows])
            left.set_title("Against rank")
            right[0].set_title("Against dimension")
        for axes in (left, *right):
            axes.axhline(
                before, color=MUTED, linewidth=1, linestyle=(0, (4, 2)), label="base model"
            )
            axes.axhline(after, color=COLOURS[3], linewidth=1, label="full fine-tuning")
        if right and full["target_loss"] < result["before"]["target_loss"]:
            start, end = result["before"]["target_loss"], full["target_loss"]
            enough = _perplexity(start - _SHARE * (start - end))
            right[0].axhline(enough, color=COLOURS[3], linewidth=1, linestyle=(0, (1, 1.5)),
                             label="nine tenths of its gain")  # fmt: skip
        left.set_ylabel("perplexity, logarithmic")
        for axes in (left, *right):
            axes.set_yscale("log")
            axes.grid(axis="y")
            log_ticks(axes)
        shared_legend(figure, (left, *right), 3)
    return figure


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))


def _spread(axes: Axes, points: Sequence[tuple[float, float]], before: float) -> None:
    """Set the limits with room for labels beside the outermost points."""
    numbers = [x for line in axes.lines for x in np.ravel(line.get_xdata())]
    axes.set_xlim(min(numbers) / 1.5, max(numbers) * 2)
    values = [*(y for _, y in points), before]
    margin = max(max(values) / min(values), 1.01) ** 0.08
    axes.set_ylim(min(values) / margin, max(values) * margin)


def _fraction(axes: Axes, point: tuple[float, float]) -> tuple[float, float]:
    """Return a point as shares of the logarithmic axes."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    x, y = point
    return math.log(x / left) / math.log(right / left), math.log(y / low) / math.log(high / low)


def _label_places(
    axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str]
) -> list[tuple[float, float]]:
    """Return where each label begins or ends, as shares of the axes.

    Of the places around its point a label takes the nearest that covers no point, curve or label.
    """
    panel = axes.get_window_extent()
    pixels = axes.figure.dpi / 72  # a point
    high = _LINE * _LABEL * pixels / panel.height
    spots = [_fraction(axes, point) for point in points]
    taken = [(x - _DOT, x + _DOT, y) for x, y in spots]  # left, right, middle
    taken += [(x, x, y) for line in axes.lines for x, y in _along(axes, line)]
    places = []
    for (x, y), name in zip(spots, names, strict=True):
        width = text_width([name], _LABEL) * POINTS_A_CM * pixels / panel.width
        free = []
        for distance, out, side in itertools.product(range(-16, 17), range(5), (1, -1)):
            start = x + side * (_DOT + 0.008 + 0.03 * out)
            left, right = sorted((start, start + side * width))
            middle = y + distance * high / 2
            clear = all(
                right < taken_left or left > taken_right or abs(middle - height) >= high
                for taken_left, taken_right, height in taken
            )
            if clear and left > 0 and right < 1 and high / 2 < middle < 1 - high / 2:
                free.append((abs(distance) + 3 * out, -side, left, right, middle, start))
        _, _, left, right, middle, start = min(free, default=(0, 0, x, x + width, y, x + _DOT))
        taken.append((left, right, middle))
        places.append((start, middle))
    return places


def _along(axes: Axes, line: Line2D) -> list[tuple[float, float]]:
    """Return places along a curve, as shares of the axes."""
    ends = axes.transAxes.inverted().transform(line.get_transform().transform(line.get_xydata()))
    steps = np.linspace(0, 1, 60)[:, None]
    return [
        (float(x), float(y))
        for start, end in itertools.pairwise(ends)
        for x, y in start + steps * (end - start)
    ]


def _powers(axes: Axes, places: Sequence[int]) -> None:
    """Make an axis logarithmic, with a mark at each place, or at a few of many."""
    axes.set_xscale("log", base=2)
    marks: list[int] = []
    for place in sorted(set(places)):
        if not marks or place >= 1.9 * marks[-1]:
            marks.append(place)
    axes.xaxis.set_major_locator(FixedLocator(marks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _short(value: float, _: object) -> str:
    for number, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= number:
            return f"{value / number:g} {unit}"
    return f"{value:g}"


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figures of the methods and of the ranks."""
    yield "finetuning", finetuning_figure(result)
    yield "finetuning-ranks", ranks_figure(result)
