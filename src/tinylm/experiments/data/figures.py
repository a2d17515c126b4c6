"""Figures of the corpus: how long its stories are and how often its words occur."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tinylm.config import RunConfig
from tinylm.experiments.units import unit_of
from tinylm.report.drawing import (
    COLOURS,
    INK,
    MUTED,
    Drawn,
    legend_below,
    new_figure,
    style,
)

_HEAD, _TAIL = 10, 1_000
"""Ranks between which the exponent of Zipf's law is fitted: the commonest words bend away from the
line, and the rare ones stand on steps of whole counts."""


def zipf_exponent(rank_frequency: list[list[float]]) -> float | None:
    """Return s of ``count = c / rank^s``, fitted by least squares between ranks 10 and 1,000.

    Ranks may be given sparsely: every point counts in proportion to the stretch of log(rank) that
    it stands for, so that a thinned list gives the same slope. None if there is too little to fit.
    """
    line = _power_law(rank_frequency)
    return None if line is None else -line[0]


def zipf_excess(rank_frequency: list[list[float]]) -> float | None:
    """Return how many times rarer the rare words are than the power law says that fits the others.

    Taken where nine tenths of the words are more frequent. None if that rank is among those that
    the power law is fitted to, or none can be fitted.
    """
    line = _power_law(rank_frequency)
    rank, count = min(rank_frequency, key=lambda point: abs(point[0] - 0.9 * rank_frequency[-1][0]))
    if line is None or rank <= _TAIL:
        return None
    return float(np.exp(line[0] * np.log(rank) + line[1])) / count


def _power_law(rank_frequency: list[list[float]]) -> tuple[float, float] | None:
    """Return slope and intercept of log(count) over log(rank)."""
    points = np.array([(r, c) for r, c in rank_frequency if _HEAD <= r <= _TAIL and c > 0])
    if len(points) < 5:
        return None
    x, y = np.log(points).T
    slope, intercept = np.polyfit(x, y, 1, w=np.sqrt(np.gradient(x)))
    return float(slope), float(intercept)


def data_figure(data: Mapping[str, Any]) -> Figure:
    """Draw the histogram of story lengths beside the rank-frequency plot.

    Args:
        data: the result of the experiment ``data``.
    """
    unit = unit_of(data)
    with style():
        figure = new_figure(height_cm=6.8)
        left, right = figure.subplots(1, 2)

        edges = np.asarray(data["length_histogram"]["edges"], dtype=float)
        counts = np.asarray(data["length_histogram"]["counts"], dtype=float)
        left.bar(
            edges[:-1], counts, np.diff(edges), align="edge", color=COLOURS[0], alpha=0.85,
            edgecolor="white", linewidth=0.3,
        )  # fmt: skip
        lengths = data["lengths"]["train"]
        for key, name, dashes in (("median", "median", (4, 2)), ("p95", "95th percentile", (1, 1))):
            left.axvline(
                lengths[key], color=INK, linewidth=0.9, linestyle=(0, dashes),
                label=f"{name} {lengths[key]:,.0f}",
            )  # fmt: skip
        left.set_title(f"Length of the training {unit.items}")
        left.set_xlabel(f"tokens per {unit.item}")
        left.set_ylabel(unit.items)
        left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        legend_below(left)
        left.grid(axis="y")

        ranks = np.asarray([point[0] for point in data["rank_frequency"]], dtype=float)
        frequency = np.asarray([point[1] for point in data["rank_frequency"]], dtype=float)
        right.loglog(
            ranks, frequency, color=COLOURS[0], marker="." if len(ranks) < 400 else "",
            markersize=2.5, linewidth=1, label="training split",
        )  # fmt: skip
        exponent = zipf_exponent(data["rank_frequency"])
        if exponent is not None:
            inside = (ranks >= _HEAD) & (ranks <= _TAIL) & (frequency > 0)
            middle = np.exp(np.mean(np.log(frequency[inside]) + exponent * np.log(ranks[inside])))
            span = np.array([_HEAD, min(_TAIL, ranks.max())])
            right.loglog(
                span, middle * span**-exponent, color=COLOURS[1], linestyle=(0, (4, 2)),
                label=f"slope −{exponent:.2f}, ranks {_HEAD} to {span[1]:,.0f}",
            )  # fmt: skip
        size = data["vocab_size"]
        if ranks.size and size < ranks.max():
            right.axvline(size, color=MUTED, linewidth=0.8, linestyle=(0, (1, 1)),
                          label=f"end of the vocabulary ({size:,})")  # fmt: skip
        right.set_title("Frequency of the words by rank")
        right.set_xlabel("rank")
        right.set_ylabel("occurrences")
        for axis in (right.xaxis, right.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        legend_below(right)
        right.grid(which="major")
    return figure


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figure of the data."""
    yield "data", data_figure(result)
