"""Figures of the tokenizers: bits and perplexities, lengths and speeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from tinylm.config import RunConfig
from tinylm.experiments.tokenizers.section import per_byte
from tinylm.measurement import mean
from tinylm.report.drawing import COLOURS, INK, Drawn, new_figure, style

Row = Mapping[str, Any]
_PALE = 0.35
_ROW_CM = 0.55
_AROUND_CM = 2.4


def _colours(rows: Sequence[Row]) -> list[str]:
    """Return a colour for each row, the same for a kind of tokenizer."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    return [COLOURS[kinds.index(row["kind"]) % len(COLOURS)] for row in rows]


def _reach(values: Sequence[float]) -> tuple[float, float, float]:
    """Return a mean and how far its interval reaches to both sides; nowhere for one seed."""
    value = mean(values)
    low, high = (value.value if math.isnan(end) else end for end in value.ends)
    return value.value, value.value - low, high - value.value


def _rows(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x")


def bits_figure(result: Row) -> Figure:
    """Draw bits a byte and perplexity a token, a row each tokenizer."""
    rows = result["tokenizers"]
    with style():
        figure = new_figure(height_cm=_AROUND_CM + _ROW_CM * len(rows))
        left, right = figure.subplots(1, 2, sharey=True)
        for place, (row, colour) in enumerate(zip(rows, _colours(rows), strict=True)):
            value, below, above = _reach(row["bits_per_byte"])
            own = fmean(row["token_bits_per_byte"])
            left.barh(place, own, color=colour, height=0.62)
            left.barh(place, value - own, left=own, color=colour, alpha=_PALE, height=0.62)
            left.errorbar(value, place, xerr=[[below], [above]], color=INK, elinewidth=0.9,
                          capsize=2)  # fmt: skip
            value, below, above = _reach(row["perplexity"])
            right.errorbar(value, place, xerr=[[min(below, 0.9 * value)], [above]], color=colour,
                           marker="o", elinewidth=0.9, linestyle="none")  # fmt: skip
        _rows(left, rows)
        left.set_title("Bits a byte")
        left.set_xlabel("lower is better")
        left.xaxis.set_major_locator(MaxNLocator(6))
        right.set_title("Perplexity a token")
        right.set_xscale("log")
        right.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
        right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        right.xaxis.set_minor_locator(NullLocator())
        right.set_xlabel("logarithmic; not comparable")
        right.grid(axis="x")
    return figure


def costs_figure(result: Row) -> Figure:
    """Draw tokens a word, text read in training and text decoded a second."""
    rows = result["tokenizers"]
    new = result["new_tokens"]
    panels: Sequence[tuple[str, Callable[[Row], float]]] = (
        ("Tokens a word", lambda row: row["tokens_per_word"]),
        ("kB read in training", lambda row: row["tokens"] * row["bytes_per_token"] / 1000),
        ("kB decoded a second", lambda row: new / per_byte(row).median / 1000),
    )
    with style():
        figure = new_figure(height_cm=_AROUND_CM + _ROW_CM * len(rows))
        for axes, (title, value) in zip(
            figure.subplots(1, len(panels), sharey=True), panels, strict=True
        ):
            axes.barh(range(len(rows)), [value(row) for row in rows], color=_colours(rows),
                      height=0.62)  # fmt: skip
            _rows(axes, rows)
            axes.set_title(title)
            axes.xaxis.set_major_locator(MaxNLocator(4))
    return figure


def draw(result: Row, _: RunConfig) -> Drawn:
    """Yield both figures."""
    yield "tokenizers-bits", bits_figure(result)
    yield "tokenizers-costs", costs_figure(result)
