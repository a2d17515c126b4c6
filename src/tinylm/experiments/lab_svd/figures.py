"""Figures of the lab on low-rank factorisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tinylm.config import RunConfig
from tinylm.report.drawing import (
    COLOURS,
    MUTED,
    Drawn,
    new_figure,
    shared_legend,
    style,
)

_FLOOR = 1e-6
"""Singular values below this share of the largest are not drawn: they are rounding."""
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (2, 1)), (0, (5, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D")
_MOST_MARKS = 12

Row = Mapping[str, Any]


def spectra_figure(matrices: Sequence[Row]) -> Figure:
    """Draw the singular values of the weights and of their update, a line a matrix.

    Args:
        matrices: the part ``matrices`` of the result of the experiment ``lab-svd``.
    """
    groups = list(dict.fromkeys(row["group"] for row in matrices))
    with style():
        figure = new_figure(height_cm=6.4)
        pair = figure.subplots(1, 2, sharey=True)
        for axes, part, title in zip(
            pair, ("weight", "update"), ("Trained weights", "Fine-tuning update"), strict=True
        ):
            named: set[str] = set()
            for row in matrices:
                values, place = row[part]["values"], groups.index(row["group"])
                kept = [value / values[0] for value in values if value > _FLOOR * values[0]]
                axes.plot(
                    range(1, len(kept) + 1), kept, linewidth=0.8,
                    color=COLOURS[place % len(COLOURS)], linestyle=_DASHES[place % len(_DASHES)],
                    label="" if row["group"] in named else row["group"],
                )  # fmt: skip
                named.add(row["group"])
            axes.set_title(title)
            axes.set_xlabel("number of the singular value")
            axes.set_xlim(left=0)
            axes.grid(axis="y")
        pair[0].set_ylabel("share of the largest one")
        pair[0].set_ylim(0, 1.03)
        for line in figure.legend(
            *pair[0].get_legend_handles_labels(), loc="outside lower left", ncols=len(groups)
        ).get_lines():
            line.set_linewidth(1.6)
    return figure


def cut_figure(cut: Mapping[str, Any]) -> Figure:
    """Draw the error of cut weights, and the loss with them, against the numbers stored.

    Args:
        cut: the part ``cut`` of the result of the experiment ``lab-svd``.
    """
    with style():
        figure = new_figure(height_cm=6.0)
        left, right = figure.subplots(1, 2)
        for i, (group, cut_group) in enumerate(cut["groups"].items()):
            # At full rank the matrices are kept as they are: no error, the loss of the dotted line.
            rows = [row for row in cut_group["rows"] if row["relative_error"] > 0]
            shares = [100 * row["stored"] / cut_group["parameters"] for row in rows]
            name = "both" if group == "all" else group
            for axes, key, factor in ((left, "relative_error", 100), (right, "loss", 1)):
                axes.plot(
                    shares, [factor * row[key] for row in rows], label=name,
                    color=COLOURS[i], linestyle=_DASHES[i], marker=_MARKERS[i],
                )  # fmt: skip
        left.set_title("Error of the weights")
        left.set_ylabel("% of their norm")
        left.set_ylim(bottom=0)
        right.set_title("Validation loss with them")
        right.set_ylabel("nats a token")
        right.axhline(cut["loss"], color=MUTED, linewidth=0.9, linestyle=(0, (1, 1)),
                      label="weights as they are")  # fmt: skip
        for axes in (left, right):
            axes.axvline(100, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)),
                         label="nothing saved")  # fmt: skip
            axes.set_xlabel("numbers stored, % of the matrices' own")
            axes.set_xlim(left=0)
            axes.grid(axis="y")
        shared_legend(figure, [right], 5)
    return figure


def update_figure(update: Mapping[str, Any]) -> Figure:
    """Draw the losses on both kinds of stories with the update cut to each rank.

    Args:
        update: the part ``update`` of the result of the experiment ``lab-svd``.
    """
    rows = update["ranks"]
    ranks = [row["rank"] for row in rows]
    with style():
        figure = new_figure(height_cm=5.2)
        pair = figure.subplots(1, 2)
        titles = (f"Stories with much {update['kind']}", "Stories with little of it")
        for axes, kind, title in zip(pair, ("chosen", "others"), titles, strict=True):
            axes.plot(
                range(len(ranks)), [row["losses"][kind] for row in rows], color=COLOURS[0],
                marker=_MARKERS[0], label="update cut to a rank",
            )  # fmt: skip
            for when, dashes, name in (
                ("before", (0, (4, 2)), "before fine-tuning"),
                ("after", (0, (1, 1)), "whole update"),
            ):
                axes.axhline(
                    update[when][kind], color=MUTED, linewidth=0.9, linestyle=dashes, label=name
                )
            axes.set_title(title)
            axes.set_xlabel("rank of the update of each matrix")
            axes.set_ylabel("loss (nats a token)")
            _rank_marks(axes, ranks)
            axes.margins(y=0.14)
            axes.grid(axis="y")
        shared_legend(figure, pair, 3)
    return figure


def _rank_marks(axes: Axes, ranks: Sequence[int]) -> None:
    """Write ranks, which are drawn at equal distances, under as many marks as fit."""
    stride = -(-len(ranks) // _MOST_MARKS)
    kept = sorted({*range(0, len(ranks), stride)})
    axes.xaxis.set_major_locator(FixedLocator(kept))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(
            lambda place, _: f"{ranks[round(place)]:,}" if 0 <= place < len(ranks) else ""
        )
    )


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figures of spectra, cuts and the update."""
    yield "lab-svd-spectra", spectra_figure(result["matrices"])
    yield "lab-svd-cut", cut_figure(result["cut"])
    yield "lab-svd-update", update_figure(result["update"])
