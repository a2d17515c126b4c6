"""All attention heads at a glance: where their weight goes, and what each is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tinylm.interpretability.places import PLACES, label
from tinylm.measurement import Difference, Verdict
from tinylm.report.drawing import (
    COLOURS,
    INK,
    MUTED,
    RULE,
    WEIGHTS,
    new_figure,
    style,
)
from tinylm.report.formatting import head_name

_ROW_CM = 0.46
_HEADER_CM = 3.2
_DARK = 0.62
"""Shade from which numbers in a cell are white."""
_FULL = 0.5
"""Focus that is drawn in the darkest shade."""


def heads_figure(heads: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw a row per head: its share of each category, and its importance with the interval.

    Args:
        heads: of the result of the experiment ``attention``.
    """
    names = [place.name for place in PLACES if any(place.name in h["shares"] for h in heads)]
    with style():
        figure = new_figure(height_cm=_HEADER_CM + _ROW_CM * len(heads))
        left, right = figure.subplots(1, 2, width_ratios=(2.1, 1), sharey=True)
        _draw_shares(left, heads, names)
        _draw_worth(right, heads)
        _part_layers((left, right), heads)
    return figure


def _draw_shares(axes: Axes, heads: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    focus = np.full((len(heads), len(names)), np.nan)
    for i, head in enumerate(heads):
        for j, name in enumerate(names):
            if share := head["shares"].get(name):
                expected = share["expected"]
                focus[i, j] = (share["share"] - expected) / max(1 - expected, 1e-9)
    shades = Normalize(0, _FULL, clip=True)
    axes.imshow(focus, cmap=WEIGHTS, norm=shades, aspect="auto", interpolation="nearest")
    for i, head in enumerate(heads):
        for j, name in enumerate(names):
            if share := head["shares"].get(name):
                leads = head["role"] == name
                axes.text(
                    j, i, f"{100 * share['share']:.0f}", ha="center", va="center", fontsize=6.5,
                    fontweight="bold" if leads else "normal",
                    color="white" if shades(focus[i, j]) > _DARK else INK,
                )  # fmt: skip
    axes.set_xticks(
        range(len(names)), list(map(label, names)), rotation=40, ha="left", rotation_mode="anchor"
    )
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(heads)), [head_name(h["layer"], h["head"]) for h in heads])
    axes.tick_params(length=0, labelsize=7)
    axes.set_ylabel("head (layer.head)")
    axes.set_xlabel("share of the head's weight, in percent")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_worth(axes: Axes, heads: Sequence[Mapping[str, Any]]) -> None:
    for i, head in enumerate(heads):
        worth = Difference.from_result(head["worth"])
        if math.isnan(worth.value):
            continue
        counts = worth.verdict in (Verdict.MORE, Verdict.LESS)
        reach = [[worth.value - worth.low], [worth.high - worth.value]]
        axes.errorbar(
            worth.value, i, xerr=reach if worth.verdict is not Verdict.UNKNOWN else None,
            marker="o", markersize=4, capsize=2, linewidth=1, linestyle="none",
            color=COLOURS[1] if counts else MUTED, markerfacecolor=None if counts else "white",
        )  # fmt: skip
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.spines["left"].set_visible(False)  # the line at 0 is enough
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("increase of the loss (nats)")
    axes.grid(axis="x")


def _part_layers(both: Sequence[Axes], heads: Sequence[Mapping[str, Any]]) -> None:
    for i in range(1, len(heads)):
        if heads[i]["layer"] != heads[i - 1]["layer"]:
            for axes in both:
                axes.axhline(i - 0.5, color=RULE, linewidth=1.2)
