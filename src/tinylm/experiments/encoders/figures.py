"""Figures of families of models: curves of training, costs by length, loss by context."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from tinylm.config import RunConfig
from tinylm.experiments.encoders.readings import shown_name
from tinylm.measurement import Difference, mean
from tinylm.report.axes import DASHES, log_ticks
from tinylm.report.drawing import COLOURS, MUTED, Drawn, new_figure, shared_legend, style

Row = Mapping[str, Any]
_MARKS = "osD^vP*X"
_TITLES = {"stories": "Stories", "translation": "Translations"}


def _look(number: int) -> dict[str, Any]:
    """Return how the line of a variant is drawn, by its place."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": _MARKS[number % len(_MARKS)],
        "markersize": max(2.5, 5.5 - 0.6 * number),  # so that one under another is seen
        "linestyle": DASHES[number % len(DASHES)],
        "linewidth": 1.1,
    }


def _bounds(value: Difference) -> tuple[float, float]:
    """Return the interval of a mean; that of one seed has no width."""
    low, high = (value.value if math.isnan(end) else end for end in value.ends)
    return low, high


def _band(
    axes: Axes, places: Sequence[float], seeds: Sequence[Sequence[float]], number: int, label: str
) -> None:
    """Draw means over seeds with their intervals."""
    values = [mean(each) for each in seeds]
    low, high = zip(*map(_bounds, values), strict=True)
    look = _look(number)
    axes.fill_between(places, low, high, color=look["color"], alpha=0.15, linewidth=0)
    axes.plot(places, [value.value for value in values], label=label, **look)


def _scales(text: Row) -> dict[str, Callable[[Row], float]]:
    """Return what a training's steps are measured in: label of the axis -> amount of a step."""
    tokens = text["tokens_per_step"]
    return {
        "tokens read, thousands": lambda row: float(tokens / 1e3),
        "operations, TFLOPs": lambda row: float(tokens * row["flops_per_token"] / 1e12),
        "time of the steps, s": lambda row: float(row["quick"]["median_s"]),
    }


def curves_figure(result: Row) -> Figure:
    """Draw the held-out loss against three budgets, a row a text."""
    texts = result["texts"]
    with style():
        figure = new_figure(height_cm=1.4 + 5.4 * len(texts))
        rows = figure.subplots(len(texts), 3, sharey="row", squeeze=False)
        for panels, text in zip(rows, texts, strict=True):
            for axes, (label, of) in zip(panels, _scales(text).items(), strict=True):
                for number, row in enumerate(text["trainings"]):
                    places = [point["step"] * of(row) for point in row["curve"]]
                    losses = [point["loss"] for point in row["curve"]]
                    _band(axes, places, losses, number, shown_name(row["name"]))
                axes.set_xlim(left=0)
                axes.xaxis.set_major_locator(MaxNLocator(4))
                axes.set_xlabel(label)
                axes.grid(axis="y")
            panels[0].set_ylabel("loss, nats a token")
            panels[0].set_title(_TITLES[text["name"]])
        shared_legend(figure, list(rows.flatten()), 4)
    return figure


def _lengths(axes: Axes, lengths: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(lengths)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(axis="y")


def _kinds(result: Row) -> Iterator[tuple[int, str, Sequence[Row]]]:
    """Yield number of the look, kind and costs: a kind looks like its first variant."""
    kinds = [variant["kind"] for variant in result["variants"]]
    for kind, rows in result["costs"].items():
        yield kinds.index(kind), kind, rows


def costs_figure(result: Row) -> Figure:
    """Draw what is kept of a text, and the time of a token at its end, by its length."""
    with style():
        figure = new_figure(height_cm=6.6)
        kept, timed = panels = figure.subplots(1, 2)
        for number, kind, rows in _kinds(result):
            lengths = [row["context"] for row in rows]
            kept.plot(
                lengths, [row["state_bytes"] / 2**10 for row in rows], label=kind, **_look(number)
            )
            times = [1000 * row["decoding"]["median_s"] / row["decoded"] for row in rows]
            timed.plot(lengths, times, label=kind, **_look(number))
        for axes in panels:
            _lengths(axes, lengths)
            axes.set_yscale("log")
            axes.set_xlabel("tokens of the text")
            log_ticks(axes)
        kept.set_ylabel("kept, KiB")
        timed.set_ylabel("time of a token, ms")
        shared_legend(figure, panels, 5)
    return figure


def contexts_figure(result: Row) -> Figure:
    """Draw the loss by the tokens that are given, and the operations of a training step."""
    contexts = result["contexts"]
    given, trained = contexts["given"], result["texts"][0]["context"]
    with style():
        figure = new_figure(height_cm=6.8)
        loss, cost = panels = figure.subplots(1, 2)
        for number, (name, losses) in enumerate(contexts["losses"].items()):
            _band(loss, given, losses, number, shown_name(name))
        if given[0] < trained < given[-1]:
            loss.axvline(trained, color=MUTED, linestyle=":", linewidth=1)
        for number, kind, rows in _kinds(result):
            lengths = [row["context"] for row in rows]
            flops = [row["step_flops"] / 1e6 for row in rows]
            cost.plot(lengths, flops, label=shown_name(kind), **_look(number))
        _lengths(loss, given)
        _lengths(cost, lengths)
        cost.set_xlabel("tokens of the text")
        loss.set_xlabel("tokens given")
        loss.set_ylabel("loss, nats a token")
        cost.set_ylabel("a training step, MFLOPs a token")
        shared_legend(figure, panels, 4)
    return figure


def draw(result: Row, _: RunConfig) -> Drawn:
    """Yield the three figures."""
    yield "encoders-curves", curves_figure(result)
    yield "encoders-costs", costs_figure(result)
    yield "encoders-contexts", contexts_figure(result)
