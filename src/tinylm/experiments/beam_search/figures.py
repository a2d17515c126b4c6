"""The figure of the decoding strategies: likelihood, cost, agreement and variety."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tinylm.config import RunConfig
from tinylm.report.drawing import (
    COLOURS,
    INK,
    MUTED,
    Drawn,
    new_figure,
    shared_legend,
    style,
)

_TRUE = "true texts"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def decoding_figure(comparison: Mapping[str, Any]) -> Figure:
    """Draw likelihood against speed, and BLEU and distinct-2, by strategy.

    Args:
        comparison: one of the ``comparisons`` of the experiment ``beam-search``.
    """
    rows, true = comparison["rows"], comparison.get("true")
    names = [row["name"] for row in rows] + [_TRUE] * bool(true)
    variety = [row["distinct"]["2"] for row in [*rows, *([true] if true else [])]]
    with style():
        figure = new_figure(height_cm=6.0)
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.7, 1, 1))
        _trade_off(left, rows, true)
        bleu = [row["bleu_corpus"] for row in rows] + [None] * bool(true)
        _bars(middle, names, bleu, 1)
        middle.set_title("Corpus BLEU")
        _bars(right, names, variety, 2)
        right.set_title("Distinct-2")
        right.tick_params(labelleft=False)
        shared_legend(figure, [left], min(6, len(names)))
    return figure


def _trade_off(
    axes: Axes, rows: Sequence[Mapping[str, Any]], true: Mapping[str, Any] | None
) -> None:
    for i, row in enumerate(rows):
        axes.plot(
            row["tokens_per_second"], row["log_probability_per_token"], linestyle="none",
            marker=_MARKERS[i % len(_MARKERS)], color=COLOURS[i % len(COLOURS)], markersize=6,
            label=row["name"],
        )  # fmt: skip
    if true:
        axes.axhline(
            true["log_probability_per_token"], color=MUTED, linewidth=1, linestyle=(0, (4, 2)),
            label=_TRUE,
        )  # fmt: skip
    axes.set_title("Likelihood against speed")
    axes.set_xlabel("tokens per second, logarithmic")
    axes.set_ylabel("log p per token (nats)")
    speeds = [row["tokens_per_second"] for row in rows]
    axes.set_xscale("log")
    axes.set_xlim(min(speeds) / 1.5, max(speeds) * 1.5)
    marks = [m * 10**e for e in range(-1, 8) for m in (1, 1.5, 2, 3, 5, 7)]
    inside = [m for m in marks if min(speeds) / 1.5 <= m <= max(speeds) * 1.5]
    axes.set_xticks(inside, [f"{mark:,g}" for mark in inside])
    axes.set_xticks([], minor=True)
    axes.margins(y=0.12)
    axes.grid()


def _bars(axes: Axes, names: Sequence[str], values: Sequence[float | None], digits: int) -> None:
    """Draw horizontal bars from the top down, each with its value; None is a dash."""
    places = range(len(names), 0, -1)
    colours = [
        MUTED if name == _TRUE else COLOURS[i % len(COLOURS)] for i, name in enumerate(names)
    ]
    bars = axes.barh(places, [value or 0 for value in values], 0.62, color=colours)
    shown = ["–" if value is None else f"{value:.{digits}f}" for value in values]
    axes.bar_label(bars, shown, fontsize=7, color=INK, padding=2)
    axes.set_yticks(places, names, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.22 * max([*(value or 0 for value in values), 0.01]))  # room for the values
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.grid(axis="x")


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figure of the largest comparison."""
    if result["comparisons"]:
        largest = max(result["comparisons"], key=lambda comparison: comparison["num_prompts"])
        yield "beam-search", decoding_figure(largest)
