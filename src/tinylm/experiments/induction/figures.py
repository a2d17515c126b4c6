"""Figures of induction heads: scores under one another over the training, and ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tinylm.config import RunConfig
from tinylm.experiments.induction.section import split
from tinylm.report.axes import DASHES
from tinylm.report.drawing import COLOURS, MUTED, Drawn, new_figure, shared_legend, style

_LAYERS = (MUTED, COLOURS[0])
"""Colours of heads by their layer."""
_GROUPS = ("others with the previous-token head", "others at random")


def forming_figure(curve: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw losses and scores over the training, one panel under the other.

    Args:
        curve: of the experiment ``induction``.
    """
    steps = [row["step"] for row in curve]
    with style():
        figure = new_figure(height_cm=19)
        panels = figure.subplots(5, 1, sharex=True)
        losses, prefix, previous, composed, in_context = panels
        for key, label, colour, dashes in (
            ("first_half", "first half", MUTED, DASHES[1]),
            ("second_half", "second half", COLOURS[1], DASHES[0]),
        ):
            values = [row[key] for row in curve]
            losses.plot(steps, values, color=colour, linestyle=dashes, label=label)
        losses.set_title("Loss on repeated random tokens")
        losses.set_ylabel("nats a token")
        losses.set_ylim(bottom=0)
        losses.legend(loc="center right")
        for axes, key, title in (
            (prefix, "prefix_matching", "Prefix-matching score of each head"),
            (previous, "previous_token", "Previous-token score of each head"),
        ):
            _heads(axes, steps, [row[key] for row in curve])
            axes.set_title(title)
            axes.set_ylim(0, 1.02)
        prefix.legend(loc="center right")
        _pairs(composed, steps, [row["key_composition"] for row in curve])
        composed.set_title("K-composition of each pair of heads, above random ones")
        composed.legend(loc="upper left")
        in_context.plot(steps, [row["in_context"] for row in curve], color=COLOURS[2])
        in_context.set_title("In-context learning score")
        in_context.set_ylabel("nats")
        in_context.set_xlabel("training steps")
        in_context.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        in_context.set_xlim(0, steps[-1])
        for axes in panels:
            axes.grid(axis="both")
            axes.yaxis.set_major_locator(MaxNLocator(4))
    return figure


def _heads(axes: Axes, steps: Sequence[int], scores: Sequence[Sequence[Sequence[float]]]) -> None:
    for layer in (0, 1):
        for head in range(len(scores[0][layer])):
            axes.plot(
                steps, [row[layer][head] for row in scores], color=_LAYERS[layer],
                linestyle=DASHES[1 - layer], linewidth=1.0,
                label="" if head else f"heads of layer {layer + 1}",
            )  # fmt: skip


def _pairs(axes: Axes, steps: Sequence[int], scores: Sequence[Sequence[Sequence[float]]]) -> None:
    """Draw the pairs of the head of layer 1 that ends highest apart from the others."""
    last = scores[-1]
    most = max(range(len(last)), key=lambda head: max(last[head]))
    for first in sorted(range(len(last)), key=lambda head: head != most):
        leads = first == most
        for second in range(len(last[0])):
            axes.plot(
                steps, [row[first][second] for row in scores],
                color=COLOURS[1] if leads else MUTED, linestyle=DASHES[0 if leads else 1],
                linewidth=1.0 if leads else 0.7, zorder=3 if leads else 2,
                label=f"with head 1.{first + 1}" if leads and not second else "",
            )  # fmt: skip
    if len(last) > 1:
        axes.plot([], [], color=MUTED, linestyle=DASHES[1], linewidth=0.7, label="with another")


def ablation_figure(models: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw the loss that is added without heads, a panel a model.

    Args:
        models: title -> ``formed`` or ``run`` of the experiment ``induction``.
    """
    with style():
        figure = new_figure(height_cm=6.6)
        panels = figure.subplots(1, len(models), squeeze=False)[0]
        for axes, (title, part) in zip(panels, models.items(), strict=True):
            rows = part["ablation"]
            counts = [len(row["heads"]) for row in rows]
            for place, row in zip(counts, rows, strict=True):
                groups = split(row["random"], part["previous"] or ())
                for values, marker, colour, shift, label in zip(
                    groups, "^o", (COLOURS[0], MUTED), (0.1, -0.1), _GROUPS, strict=True
                ):
                    axes.plot(
                        [place + shift] * len(values), values, linestyle="none", marker=marker,
                        color=colour, markersize=3, alpha=0.6,
                        label=label if values else "",
                    )  # fmt: skip
            value, low, high = zip(*(row["more"] for row in rows), strict=True)
            spread = [
                [v - end for v, end in zip(value, low, strict=True)],
                [end - v for v, end in zip(value, high, strict=True)],
            ]
            axes.errorbar(
                counts, value, yerr=spread, color=COLOURS[1], marker="s", elinewidth=0.7,
                label="highest prefix-matching scores",
            )  # fmt: skip
            axes.set_title(title)
            axes.set_xlabel("heads replaced by their mean")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(axis="y")
        panels[0].set_ylabel("nats a token more")
        shared_legend(figure, panels, 3)
    return figure


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figures of the training and of the ablations."""
    yield "induction-forming", forming_figure(result["curve"])
    parts = {"Two-layer model": result["formed"], "The run's model": result["run"]}
    models = {title: part for title, part in parts.items() if part and part["ablation"]}
    if models:
        yield "induction-ablation", ablation_figure(models)
