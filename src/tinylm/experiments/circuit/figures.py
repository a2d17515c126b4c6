"""The figure of circuits: the parts of the model from bottom to top, and what passes between."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tinylm.config import RunConfig
from tinylm.report.drawing import COLOURS, INK, MUTED, Drawn, new_figure, style
from tinylm.report.formatting import head_name

_MOST_PANELS = 4
_KINDS = {"query": COLOURS[0], "key": COLOURS[1], "value": COLOURS[2]}
_OTHER = MUTED


def circuit_figure(result: Mapping[str, Any]) -> Figure:
    """Draw the circuit of each behaviour, up to four, a panel each.

    Args:
        result: of the experiment ``circuit``.
    """
    rows = result["behaviours"][:_MOST_PANELS]
    layers, heads = result["num_layers"], result["num_heads"]
    with style():
        figure = new_figure(height_cm=3.4 + 1.9 * layers)
        panels = figure.subplots(1, len(rows), squeeze=False)[0]
        for axes, row in zip(panels, rows, strict=True):
            _draw(axes, row, layers, heads)
            axes.set_title("\n".join(wrap(row["asks"], 64 // len(rows))), parse_math=False)
        marks = [Line2D([], [], color=colour, label=kind) for kind, colour in _KINDS.items()]
        marks.append(Line2D([], [], color=_OTHER, label="whole stream"))
        figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))
    return figure


def _places(layers: int, heads: int) -> dict[str, tuple[float, float]]:
    """Return where each part stands: a row of heads and a feed-forward part a layer."""
    middle = (heads - 1) / 2
    places = {"embedding": (middle, -1.0), "logits": (middle, 2.0 * layers)}
    for layer in range(layers):
        for head in range(heads):
            places[f"layers.{layer}.head.{head}"] = (float(head), 2.0 * layer)
        places[f"layers.{layer}.feed_forward"] = (heads - 0.1, 2.0 * layer + 1)
    return places


def _draw(axes: Axes, row: Mapping[str, Any], layers: int, heads: int) -> None:
    places = _places(layers, heads)
    most = max(abs(score) for _, _, score in row["edges"])
    used = set()
    for sender, receiver, score in row["edges"]:
        node, _, kind = receiver.rpartition(".")
        if kind not in _KINDS:
            node, kind = receiver, ""
        used |= {sender, node}
        shift = {"query": -0.16, "key": 0.0, "value": 0.16}.get(kind, 0.0)
        (x, y), (to_x, to_y) = places[sender], places[node]
        axes.annotate(
            "",
            (to_x + shift, to_y - 0.2),
            (x, y + 0.2),
            arrowprops={
                "arrowstyle": "-",
                "color": _KINDS.get(kind, _OTHER),
                "linewidth": 0.6 + 2.4 * abs(score) / most,
                "connectionstyle": "arc3,rad=0.08",
            },
        )
    for name, (x, y) in places.items():
        label = _label(name)
        axes.text(
            x, y, label, ha="center", va="center", fontsize=6.5,
            color=INK if name in used else "#a3abb3",
            bbox={
                "boxstyle": "round,pad=0.25",
                "facecolor": "white",
                "edgecolor": INK if name in used else "#d0d7de",
                "linewidth": 0.8,
            },
        )  # fmt: skip
    axes.set_xlim(-0.7, heads + 0.5)
    axes.set_ylim(-1.5, 2 * layers + 0.5)
    axes.set_axis_off()


def _label(name: str) -> str:
    """Return a part's name for a reader, who counts from 1."""
    if not name.startswith("layers."):
        return name
    _, layer, part, *head = name.split(".")
    if part == "head":
        return head_name(int(layer), int(head[0]))
    return f"FF {int(layer) + 1}"


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figure of the circuits."""
    yield "circuit", circuit_figure(result)
