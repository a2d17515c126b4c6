"""The figure of quantization: what is lost at so many bits, and by which calibration texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from tinylm.config import RunConfig
from tinylm.measurement import Difference
from tinylm.report.drawing import COLOURS, MUTED, Drawn, new_figure, shared_legend, style

_LINEAR = 0.1
"""Per cent below which the axis is linear, since differences about 0 have no logarithm."""
_MARKS = "osD^vP"
WRONG = {"shuffled": "no\norder", "even": "drawn\nevenly", "other": "other\ncorpus"}
"""Kinds of wrong text, under the axis."""


def quantization_figure(result: Mapping[str, Any]) -> Figure:
    """Draw the increase of perplexity against bits a weight, and against calibration windows.

    Args:
        result: of the experiment ``quantization``.
    """
    with style():
        figure = new_figure(height_cm=8.2)
        left, right = figure.subplots(1, 2)
        for name, look in _looks(result).items():
            rows = [row for row in result["rows"] if row["method"] == name]
            _curve(left, *_by_bits(rows, False, result), **look)
            broken = {**look, "label": None, "linestyle": "--", "markerfacecolor": "white"}
            _curve(left, *_by_bits(rows, True, result), **broken)
        _draw_texts(right, result)
        left.set_yscale("symlog", linthresh=_LINEAR)
        least = min(_percent(row)[1] for row in result["rows"])
        left.set_ylim(bottom=min(1.5 * least, -_LINEAR))
        left.yaxis.set_major_formatter(FuncFormatter(_mark))
        left.yaxis.set_minor_locator(NullLocator())
        left.set_ylabel("increase of perplexity (%)")
        left.set_xlabel("bits a weight")
        left.set_title("Fewer bits")
        for axes in (left, right):
            axes.grid(axis="y")
        shared_legend(figure, [left], len(result["methods"]))
    return figure


def _draw_texts(axes: Axes, result: Mapping[str, Any]) -> None:
    looks = _looks(result)
    amounts = sorted({row["windows"] for row in result["calibration"] if row["text"] == "own"})
    wrong = list(dict.fromkeys(row["text"] for row in result["calibration"]))[1:]
    methods = list(dict.fromkeys(row["method"] for row in result["calibration"]))
    for number, name in enumerate(methods):
        rows = [row for row in result["calibration"] if row["method"] == name]
        shift = 0.12 * (number - (len(methods) - 1) / 2)
        own = [row for row in rows if row["text"] == "own"]
        _curve(axes, [amounts.index(row["windows"]) + shift for row in own], own, **looks[name])
        other = [row for row in rows if row["text"] != "own"]
        places = [len(amounts) + wrong.index(row["text"]) + shift for row in other]
        _curve(axes, places, other, **{**looks[name], "linestyle": "none"})
    for row in result["rows"]:
        if (row["bits"], row["beside_plain"]) == (result["bits"], None) and _by_group(row):
            axes.axhline(_percent(row)[0], color=MUTED, linewidth=0.8)
    names = [*(f"{amount:,}" for amount in amounts), *(WRONG[kind] for kind in wrong)]
    axes.set_xticks(range(len(names)), names)
    axes.axvline(len(amounts) - 0.5, color=MUTED, linewidth=0.6, linestyle=":")
    axes.set_xlabel("calibration windows, or wrong text")
    axes.set_title("Fewer texts, and others")


def _looks(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return colour, mark and label of each method."""
    return {
        name: {"color": colour, "marker": mark, "label": method["label"]}
        for (name, method), colour, mark in zip(
            result["methods"].items(), cycle(COLOURS), cycle(_MARKS), strict=False
        )
    }


def _mark(value: float, _: object) -> str:
    return f"{value:,.10g}".replace("-", "−")


def _by_group(row: Mapping[str, Any]) -> bool:
    """Whether it is the form of most scales that a method has."""
    return bool(row["granularity"] != "row")


def _by_bits(
    rows: Sequence[Mapping[str, Any]], by_row: bool, result: Mapping[str, Any]
) -> tuple[list[float], list[Mapping[str, Any]]]:
    """Return bits a weight of the whole model, as stored, and the rows of one layout."""
    chosen = [row for row in rows if _by_group(row) is not by_row]
    return [8 * row["bytes"] / result["weights"] for row in chosen], chosen


def _percent(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return the increase of perplexity with its interval, in per cent."""
    more = Difference.from_result(row["more"])
    value, low, high = (100 * math.expm1(part) for part in (more.value, *more.ends))
    return value, low, high


def _curve(
    axes: Axes, places: Sequence[float], rows: Sequence[Mapping[str, Any]], **look: Any
) -> None:
    if not rows:
        return
    values = [_percent(row) for row in rows]
    below = [value - low for value, low, _ in values]
    above = [high - value for value, _, high in values]
    axes.errorbar(
        places, [value for value, _, _ in values], [below, above],
        linewidth=1.0, elinewidth=0.7, markersize=3.5, **look,
    )  # fmt: skip


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figure of quantization."""
    yield "quantization", quantization_figure(result)
