"""Training curves: loss, perplexity, learning rate and gradient norm against steps and tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tinylm.config import RunConfig
from tinylm.experiments.training.architecture_figure import architecture_figure
from tinylm.experiments.training.outlined_figure import outlined_figure
from tinylm.experiments.training.section import FEWEST_TO_SMOOTH
from tinylm.registry import MODELS
from tinylm.report.axes import log_ticks, smooth, smoothing_span
from tinylm.report.drawing import (
    COLOURS,
    MUTED,
    Drawn,
    new_figure,
    shared_legend,
    style,
)
from tinylm.report.formatting import setting

_EARLY = 0.25
"""Share of the steps after which a curve is drawn once more, by itself."""


def loss_figure(training: Mapping[str, Any]) -> Figure:
    """Draw training loss (raw and smoothed) and validation loss.

    Args:
        training: the result of the experiment ``training``.
    """
    curve, validations = training["curve"], training["validations"]
    steps = [point["step"] for point in curve]
    losses = [point["loss"] for point in curve]
    with style():
        figure = new_figure(height_cm=7.4)
        axes = figure.subplots()
        if len(steps) >= FEWEST_TO_SMOOTH:
            span = smoothing_span(len(steps))
            axes.plot(steps, losses, color=COLOURS[0], alpha=0.45, linewidth=0.8, label="training")
            axes.plot(
                steps, smooth(losses, span), color=COLOURS[0],
                label=f"training, moving average over {span} points",
            )  # fmt: skip
        else:
            axes.plot(steps, losses, color=COLOURS[0], marker=".", label="training")
        if validations:
            axes.plot(
                [point["step"] for point in validations],
                [point["loss"] for point in validations],
                color=COLOURS[1], marker="o", label="validation",
            )  # fmt: skip
            best = training["best"]
            axes.plot(
                best["step"], best["loss"], marker="o", markersize=8, markerfacecolor="none",
                markeredgecolor=COLOURS[1], linestyle="none", label="best validation",
                clip_on=False,
            )  # fmt: skip
        axes.set_ylabel("loss (nats per token), logarithmic")
        axes.grid(axis="y")
        shared_legend(figure, [axes], 4)
        _step_axes(axes, training)
        _log_axis(axes)
    return figure


def perplexity_figure(training: Mapping[str, Any]) -> Figure:
    """Draw training and validation perplexity: all validations with two baselines, then the later.

    The baselines are the uniform and the unigram model.

    Args:
        training: the result of the experiment ``training``.
    """
    series: list[tuple[str, str, str, str]] = [
        ("training_perplexity", "training", COLOURS[0], "s"),
        ("perplexity", "validation", COLOURS[1], "o"),
    ]
    later = training["steps"] * _EARLY
    with style():
        figure = new_figure(height_cm=7.4)
        whole, end = figure.subplots(1, 2, width_ratios=(1.2, 1))
        for key, name, colour, marker in series:
            # Runs of older versions have no training perplexity.
            points = [(v["step"], v[key]) for v in training["validations"] if v.get(key)]
            for axes, shown in ((whole, points), (end, [p for p in points if p[0] >= later])):
                if shown:
                    axes.plot(*zip(*shown, strict=True), color=colour, marker=marker,
                              markersize=3.5, label=name)  # fmt: skip
        for key, name, colour in (
            ("uniform_perplexity", "uniform model", MUTED),
            ("unigram_perplexity", "unigram model", COLOURS[2]),
        ):
            if training.get(key):
                whole.axhline(
                    training[key], color=colour, linestyle=(0, (4, 2)), linewidth=1,
                    label=f"{name} ({training[key]:,.0f})",
                )  # fmt: skip
        _log_axis(whole)
        whole.set_title("From the untrained model on")
        whole.set_ylabel("perplexity, logarithmic")
        end.set_title(f"After {_EARLY:.0%} of the steps".replace("%", "\u202f%"))
        end.set_ylabel("perplexity")
        for axes in (whole, end):
            axes.set_xlabel("optimizer steps")
            axes.margins(x=0.02)
            axes.xaxis.set_major_locator(_steps())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.grid(axis="y", which="major")
        shared_legend(figure, [whole, end], 4)
    return figure


def schedule_figure(training: Mapping[str, Any]) -> Figure:
    """Draw learning rate and gradient norm, one under a title each.

    Args:
        training: the result of the experiment ``training``.
    """
    curve = training["curve"]
    steps = [point["step"] for point in curve]
    with style():
        figure = new_figure(height_cm=5.4)
        left, right = figure.subplots(1, 2)
        left.plot(steps, [point["learning_rate"] for point in curve], color=COLOURS[2])
        left.set_title("Learning rate")
        left.set_ylim(bottom=0)
        left.yaxis.set_major_formatter(FuncFormatter(_decimal))
        norms = [(p["step"], p["gradient_norm"]) for p in curve if p["gradient_norm"] is not None]
        right.plot([s for s, _ in norms], [n for _, n in norms], color=COLOURS[3], linewidth=0.8)
        right.set_title("Norm of the gradient before clipping")
        right.set_ylim(bottom=0)
        for axes in (left, right):
            axes.grid(axis="y")
            _step_axes(axes, training)
    return figure


def _steps() -> MaxNLocator:
    """Return the marks of an axis of steps, the same in all figures of a training."""
    return MaxNLocator(6, steps=[1, 2, 5, 10], integer=True)


def _step_axes(axes: Axes, training: Mapping[str, Any]) -> None:
    """Label the lower axis in steps and put tokens on a second one above."""
    axes.set_xlabel("optimizer steps")
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(_steps())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if not training["steps"] or not training["tokens_seen"]:
        return
    tokens_per_step = training["tokens_seen"] / training["steps"]

    def scaled(factor: float) -> Callable[[Any], Any]:
        return lambda values: np.asarray(values) * factor

    above = axes.secondary_xaxis("top", functions=(scaled(tokens_per_step), scaled(1 / tokens_per_step)))  # fmt: skip  # noqa: E501
    above.set_xlabel("training tokens", color=MUTED)
    above.xaxis.set_major_locator(MaxNLocator(5))
    above.xaxis.set_major_formatter(FuncFormatter(_short_count))
    above.tick_params(colors=MUTED, labelcolor=MUTED)
    above.spines["top"].set_visible(True)
    above.spines["top"].set_color(MUTED)


def _log_axis(axes: Axes) -> None:
    """Make the axis of values logarithmic, so that neither beginning nor end of a curve is lost."""
    axes.set_yscale("log")
    log_ticks(axes)


def _short_count(value: float, _: object) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def _decimal(value: float, _: object) -> str:
    """Return a learning rate as the text has it, without a power of ten while it can be read."""
    return f"{value:.6f}".rstrip("0").rstrip(".") if value >= 1e-5 else setting(value)


def draw(result: Mapping[str, Any], config: RunConfig) -> Drawn:
    """Yield the architecture, and the curves of what was logged."""
    model, counts = config.model, result["parameters"]
    vocab_size = model.vocab_size or counts["embedding"] // model.hidden_size
    outline = MODELS.load(model.kind).outline(model, vocab_size)
    if outline is not None:
        yield "architecture", outlined_figure(outline, model, vocab_size, counts)
    else:
        yield "architecture", architecture_figure(model, vocab_size, counts)
    if result["curve"]:
        yield "loss", loss_figure(result)
        yield "schedule", schedule_figure(result)
    if result["validations"]:
        yield "perplexity", perplexity_figure(result)
