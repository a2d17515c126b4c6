"""The figures of ZeRO: what each stage holds and what it sends, measured beside planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from tinylm.config import RunConfig
from tinylm.experiments.zero.section import FORMATS, Row, planned_rows, sending_rows, values
from tinylm.report.drawing import COLOURS, MUTED, Drawn, new_figure, style

_WIDTH = 0.38
"""Of a bar; two stand at each stage."""
_HATCH = "/////"
_LOOKS = {
    "parameters": ("parameters", COLOURS[0]),
    "gradients": ("gradients", COLOURS[1]),
    "optimizer": ("optimizer's states", COLOURS[2]),
}
"""Part -> what it is called and its colour, in both figures."""


def memory_figure(result: Row) -> Figure:
    """Draw what each stage holds, in bytes a parameter: a row a format, a panel a number of ranks.

    Args:
        result: of the experiment ``zero``.
    """
    rows = planned_rows(result)
    formats, every = values(rows, "precision"), values(rows, "ranks")
    first = rows[0]["micro_batches"]
    with style():
        figure = new_figure(height_cm=1.8 + 4.2 * len(formats))
        panels = figure.subplots(len(formats), len(every), sharex=True, sharey=True, squeeze=False)
        for line, precision in zip(panels, formats, strict=True):
            line[0].set_ylabel("bytes a parameter")
            for axes, ranks in zip(line, every, strict=True):
                axes.set_title(f"{FORMATS[precision]}, N = {ranks}")
                some = [
                    row
                    for row in rows
                    if (row["precision"], row["ranks"]) == (precision, ranks)
                    and row["micro_batches"] == first
                ]
                _bars(axes, some, "held", tuple(_LOOKS), result["parameters"])
        for axes in panels[-1]:
            axes.set_xlabel("stage")
        _legend(figure, tuple(_LOOKS))
    return figure


def traffic_figure(result: Row) -> Figure | None:
    """Draw what each stage sends in a step, in numbers a parameter; None: one rank sends nothing.

    Args:
        result: of the experiment ``zero``.
    """
    rows = sending_rows(result)
    if not rows:
        return None
    every, counts = values(rows, "ranks"), values(rows, "micro_batches")
    parts = ("gradients", "parameters")
    with style():
        figure = new_figure(height_cm=1.8 + 4.2 * len(counts))
        panels = figure.subplots(len(counts), len(every), sharex=True, sharey="row", squeeze=False)
        for line, count in zip(panels, counts, strict=True):
            line[0].set_ylabel("numbers a parameter")
            for axes, ranks in zip(line, every, strict=True):
                axes.set_title(f"N = {ranks}, k = {count}")
                some = [
                    row
                    for row in rows
                    if (row["micro_batches"], row["ranks"]) == (count, ranks)
                    and row["precision"] == rows[0]["precision"]
                ]
                _bars(axes, some, "sent", parts, result["parameters"])
        for axes in panels[-1]:
            axes.set_xlabel("stage")
        _legend(figure, parts)
    return figure


def _bars(
    axes: Axes, rows: Sequence[Row], what: str, parts: Sequence[str], parameters: int
) -> None:
    """Draw a pair of bars for each stage, of their parts: measured, and hatched as planned."""
    for shift, kind in ((-0.5, "measured"), (0.5, "planned")):
        bottoms = [0.0] * len(rows)
        for part in parts:
            sources = [row if kind == "measured" else row["planned"] for row in rows]
            heights = [source[what][part] / parameters for source in sources]
            places = [row["stage"] + shift * _WIDTH for row in rows]
            _, colour = _LOOKS[part]
            looks: dict[str, Any] = {"color": colour}
            if kind == "planned":
                looks = {"facecolor": "white", "edgecolor": colour, "hatch": _HATCH}
            axes.bar(places, heights, 0.9 * _WIDTH, bottoms, linewidth=0.6, **looks)
            bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    axes.set_xticks([row["stage"] for row in rows])
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y")


def _legend(figure: Figure, parts: Sequence[str]) -> None:
    looks = [_LOOKS[part] for part in parts]
    handles = [Patch(facecolor=colour, label=name) for name, colour in looks]
    handles.append(Patch(facecolor=MUTED, label="filled: measured"))
    handles.append(
        Patch(facecolor="white", edgecolor=MUTED, hatch=_HATCH, label="hatched: planned")
    )
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figures."""
    yield "zero-memory", memory_figure(result)
    traffic = traffic_figure(result)
    if traffic is not None:
        yield "zero-traffic", traffic
