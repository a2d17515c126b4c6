"""Figures of what predicting the next token teaches: steps, sizes, withheld facts, state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
)

from tinylm.config import RunConfig
from tinylm.experiments.autocomplete.section import LABELS, others
from tinylm.measurement import Difference, mean
from tinylm.report.axes import DASHES
from tinylm.report.drawing import (
    COLOURS,
    MUTED,
    Drawn,
    legend_below,
    new_figure,
    shared_legend,
    style,
)

Row = Mapping[str, Any]
_KINDS = {"new": ("facts seen, items not", MUTED), "withheld": ("facts withheld", COLOURS[0])}
_GUESS = "guessing"
_COLUMNS = 4
_MARKS = "osD^vP*"


def _bounds(value: Difference) -> tuple[float, float]:
    """Return the interval of a share; that of one seed has no width."""
    low, high = (value.value if math.isnan(end) else end for end in value.ends)
    return max(0.0, low), min(1.0, high)


def _shares(axes: Axes) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="y")


def steps_figure(result: Row) -> Figure:
    """Draw accuracy over the training of the main model, a panel a task."""
    tasks, points = result["tasks"], result["curve"]
    steps = [point["step"][0] for point in points]
    rows = -(-len(tasks) // _COLUMNS)
    with style():
        figure = new_figure(height_cm=1.2 + 4.3 * rows)
        panels = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False).flatten()
        for axes, task in zip(panels, tasks, strict=False):
            for kind, (label, colour) in _KINDS.items():
                if task["name"] not in points[0]["accuracy"][kind]:
                    continue
                shares = [mean(point["accuracy"][kind][task["name"]]) for point in points]
                low, high = zip(*map(_bounds, shares), strict=True)
                axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
                axes.plot(
                    steps, [share.value for share in shares], color=colour, label=label,
                    linestyle=DASHES[kind == "new"],
                )  # fmt: skip
            axes.axhline(task["guess"], color=COLOURS[1], linestyle=":", linewidth=1, label=_GUESS)
            axes.set_title(LABELS[task["name"]])
            axes.set_xlim(0, steps[-1])
            axes.xaxis.set_major_locator(MaxNLocator(3, prune="upper"))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            _shares(axes)
        for axes in panels[len(tasks) :]:
            axes.set_visible(False)
        # What has no panel under it carries the marks of the steps.
        for axes in panels[len(tasks) - _COLUMNS : len(tasks)]:
            axes.xaxis.set_tick_params(labelbottom=True)
            axes.set_xlabel("training steps")
        for axes in panels[::_COLUMNS]:
            axes.set_ylabel("right answers")
        shared_legend(figure, list(panels[: len(tasks)]), 3)
    return figure


def sizes_figure(result: Row) -> Figure:
    """Draw accuracy on withheld facts against training items and against the model's numbers."""
    with style():
        figure = new_figure(height_cm=7.6)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, key, label in (
            (panels[0], "items", "training items"),
            (panels[1], "parameters", "parameters"),
        ):
            varied = "items" if key == "items" else "hidden_size"
            rows = sorted(
                [result["trainings"][0], *others(result, varied)], key=lambda r: r[varied]
            )
            places = [row[key] if key == "items" else sum(row[key]) / len(row[key]) for row in rows]
            for number, task in enumerate(result["tasks"]):
                shares = [mean(row["accuracy"]["withheld"][task["name"]]) for row in rows]
                low, high = zip(*map(_bounds, shares), strict=True)
                value = [share.value for share in shares]
                spread = [
                    [max(0.0, v - end) for v, end in zip(value, low, strict=True)],
                    [max(0.0, end - v) for v, end in zip(value, high, strict=True)],
                ]
                # Beside each other, so that intervals can be told apart.
                shift = 1 + 0.03 * (number - len(result["tasks"]) / 2)
                axes.errorbar(
                    [place * shift for place in places], value, yerr=spread,
                    color=COLOURS[number % len(COLOURS)], marker=_MARKS[number % len(_MARKS)],
                    linestyle=DASHES[number % len(DASHES)], elinewidth=0.7, linewidth=1.1,
                    label=LABELS[task["name"]],
                )  # fmt: skip
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(places))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.set_xlabel(label)
            _shares(axes)
        panels[0].set_ylabel("right answers, facts withheld")
        shared_legend(figure, panels, 4)
    return figure


def withheld_figure(result: Row) -> Figure:
    """Draw accuracy by kind of item, where a small and where a large share is withheld."""
    tasks = result["tasks"]
    rows = [result["trainings"][0], *others(result, "withheld")]
    with style():
        figure = new_figure(height_cm=6.6)
        panels = figure.subplots(1, len(rows), sharey=True, squeeze=False)[0]
        for axes, row in zip(panels, rows, strict=True):
            for shift, mark, (kind, (label, colour)) in zip(
                (-0.14, 0.14), "so", _KINDS.items(), strict=True
            ):
                known = row["accuracy"][kind]
                asked = [place for place, task in enumerate(tasks) if task["name"] in known]
                shares = [mean(known[tasks[place]["name"]]) for place in asked]
                value = [share.value for share in shares]
                bounds = list(map(_bounds, shares))
                spread = [
                    [max(0.0, v - low) for v, (low, _) in zip(value, bounds, strict=True)],
                    [max(0.0, high - v) for v, (_, high) in zip(value, bounds, strict=True)],
                ]
                axes.errorbar(
                    [place + shift for place in asked], value, yerr=spread,
                    linestyle="none", marker=mark, color=colour, elinewidth=0.8, label=label,
                )  # fmt: skip
            for place, task in enumerate(tasks):
                axes.hlines(
                    task["guess"], place - 0.35, place + 0.35, color=COLOURS[1], linewidth=1,
                    linestyle=":", label="" if place else _GUESS,
                )  # fmt: skip
            axes.set_title(f"{100 * row['withheld']:g} % of the facts withheld")
            axes.xaxis.set_major_locator(FixedLocator(range(len(tasks))))
            axes.set_xticklabels(
                [LABELS[task["name"]] for task in tasks], rotation=35, ha="right",
                rotation_mode="anchor",
            )  # fmt: skip
            _shares(axes)
        panels[0].set_ylabel("right answers")
        shared_legend(figure, panels, 3)
    return figure


_READ = {
    "unnamed": ("holder not named in the sentence", COLOURS[0], "o"),
    "all": ("all sentences", COLOURS[2], "s"),
    "untrained_unnamed": ("not named, untrained model", MUTED, "^"),
    "control": ("control task", COLOURS[1], "v"),
}
_EXCHANGED = {
    "last": ("last sentence", COLOURS[0], "o"),
    "other": ("the sentence before, of the other thing", COLOURS[1], "v"),
    "question": ("question", COLOURS[2], "s"),
}


def state_figure(result: Row) -> Figure:
    """Draw how well the holder is read, and how often the answer follows an exchange."""
    with style():
        figure = new_figure(height_cm=7.2)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, rows, lines, title in (
            (panels[0], result["reading"], _READ, "Read by a linear probe"),
            (panels[1], result["exchange"]["layers"], _EXCHANGED, "Exchanged with another story"),
        ):
            _by_layer(axes, rows, lines)
            axes.set_title(title)
            axes.set_xlabel("residual stream after layer")
            _shares(axes)
        panels[0].axhline(0.25, color=MUTED, linestyle=":", linewidth=1)
        panels[0].annotate(
            "one of the four", (0, 0.25), xytext=(2, 2), textcoords="offset points", fontsize=6.5,
            color=MUTED,
        )  # fmt: skip
        panels[0].set_ylabel("holder read right")
        panels[1].set_ylabel("answers of the other story")
        panels[1].yaxis.set_tick_params(labelleft=True)
        for axes in panels:
            legend_below(axes)
    return figure


def _by_layer(axes: Axes, rows: Sequence[Row], lines: Mapping[str, tuple[str, str, str]]) -> None:
    places = [row["layer"][0] for row in rows]
    for dashes, (key, (label, colour, mark)) in zip(DASHES, lines.items(), strict=False):
        shares = [mean(row[key]) for row in rows]
        low, high = zip(*map(_bounds, shares), strict=True)
        axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            places, [share.value for share in shares], color=colour, marker=mark, label=label,
            linestyle=dashes,
        )  # fmt: skip
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.set_xticklabels(["embedding", *(str(place) for place in places[1:])])


def draw(result: Row, _: RunConfig) -> Drawn:
    """Yield the four figures."""
    yield "autocomplete-steps", steps_figure(result)
    yield "autocomplete-withheld", withheld_figure(result)
    if others(result, "items") or others(result, "hidden_size"):
        yield "autocomplete-sizes", sizes_figure(result)
    yield "autocomplete-state", state_figure(result)
