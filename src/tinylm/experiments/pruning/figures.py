"""The figure of pruning: perplexity by the share that goes, and beside it what that saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tinylm.config import RunConfig
from tinylm.experiments.block_losses import perplexity_of
from tinylm.experiments.pruning.comparing import by_share
from tinylm.report.axes import log_ticks
from tinylm.report.drawing import COLOURS, MUTED, Drawn, new_figure, shared_legend, style
from tinylm.report.formatting import plural
from tinylm.report.measurements import compared

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_BROKEN = (0, (4, 1.5))
_DOTTED = (0, (1, 1))
Row = Mapping[str, Any]


def pruning_figure(result: Row) -> Figure:
    """Draw perplexity by share, without training and after it, and the time of each.

    Args:
        result: of the experiment ``pruning``.
    """
    steps = result["steps"]
    with style():
        figure = new_figure(height_cm=12.5)
        panels = figure.subplots(2, 2)
        losses = [panels[0, 0], *([panels[0, 1]] if steps else [])]
        for axes, key in zip(losses, ("losses", "after"), strict=False):
            _perplexities(axes, result, key)
        _same_height(losses)
        losses[0].set_title("Perplexity, nothing trained")
        if steps:
            losses[1].set_title(f"Perplexity after {plural(steps, 'step')}")
        else:
            panels[0, 1].set_axis_off()
        _times(panels[1, 0], result)
        _sparse(panels[1, 1], result["sparse"])
        for axes in (*losses, *panels[1]):
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
            axes.grid(axis="y")
        shared_legend(figure, [losses[0], *panels[1]], 4)
    return figure


def _look(number: int, removes: bool) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _BROKEN if removes else "-",
    }


def _perplexities(axes: Axes, result: Row, key: str) -> None:
    axes.set_yscale("log")
    whole = perplexity_of(result["whole"][key], result["tokens"])
    for number, method in enumerate(result["methods"]):
        rows = by_share(method)
        axes.plot(
            [0, *(100 * share for share in rows)],
            [whole, *(perplexity_of(row[key], result["tokens"]) for row in rows.values())],
            label=method["label"], **_look(number, method["removes"]),
        )  # fmt: skip
    axes.axhline(whole, color=MUTED, linewidth=0.6)
    axes.set_xlabel("p: share that goes (%)")
    axes.set_ylabel("validation perplexity")


def _same_height(panels: Sequence[Axes]) -> None:
    """Give panels one range of perplexities, so that they can be compared."""
    low = min(axes.get_ylim()[0] for axes in panels)
    high = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(low, high)
        log_ticks(axes)


def _times(axes: Axes, result: Row) -> None:
    for number, method in enumerate(result["methods"]):
        if method["name"] not in result["timed"]:
            continue
        rows = by_share(method)
        for key, line in (("decoding", "-"), ("step", _DOTTED)):
            look = _look(number, method["removes"]) | {"linestyle": line}
            ratios = [compared(row[key], result["whole"][key]).ratio for row in rows.values()]
            axes.plot([0, *(100 * share for share in rows)], [1, *ratios], **look)
    axes.axhline(1, color=MUTED, linewidth=0.6)
    axes.set_ylim(bottom=0)
    axes.set_title("Decoding (full lines), training (dotted)")
    axes.set_xlabel("p: share that goes (%)")
    axes.set_ylabel("time, of the whole model's")


def _sparse(axes: Axes, sparse: Row) -> None:
    axes.set_yscale("log")
    for number, (size, name) in enumerate((("token", "a token"), ("batch", "a training batch"))):
        rows = sparse[size]["rows"]
        axes.plot(
            [100 * row["share"] for row in rows],
            [compared(row["sparse"], row["dense"]).ratio for row in rows],
            label=f"product of {name}", color=COLOURS[-1] if number else MUTED,
            marker=_MARKERS[number],
        )  # fmt: skip
    axes.axhline(1, color=MUTED, linewidth=0.6)
    log_ticks(axes)
    axes.set_title("Time of a sparse product")
    axes.set_xlabel("share of the map's weights that is 0 (%)")
    axes.set_ylabel("time, of the dense product's")


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figure of pruning."""
    yield "pruning", pruning_figure(result)
