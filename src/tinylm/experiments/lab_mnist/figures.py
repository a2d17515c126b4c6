"""Figures of the lab on digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tinylm.config import RunConfig
from tinylm.report.drawing import (
    COLOURS,
    INK,
    MUTED,
    WEIGHTS,
    Drawn,
    new_figure,
    shared_legend,
    style,
)

_LOOKS = {"lora": ("LoRA", "o"), "head": ("output layer", "s"), "full": ("all layers", "^"),
          "full-ordinary": ("all layers, ordinary batches", "D")}  # fmt: skip
_APART = {"full": 0.93, "full-ordinary": 1.07}
"""Factors that draw two methods of the same number of parameters side by side."""
_FROM_DARK = 0.55
"""Shade of a cell from which its number is white."""


def confusion_figure(result: Mapping[str, Any]) -> Figure:
    """Draw the confusions on the test images before and after LoRA, in percent of each class.

    Args:
        result: of the experiment ``lab-mnist``.
    """
    hard = result["baseline"]["hard"]
    with style():
        figure = new_figure(height_cm=9.4)
        pair = figure.subplots(1, 2, sharey=True)
        for axes, when, title in zip(
            pair, ("before", "after"), ("Baseline", "With LoRA"), strict=True
        ):
            counts = np.asarray(result["confusion"][when], dtype=float)
            shares = counts / counts.sum(1, keepdims=True)
            axes.imshow(shares, cmap=WEIGHTS, vmin=0, vmax=1)
            for true, predicted in np.ndindex(shares.shape):
                share = shares[true, predicted]
                if not share:
                    continue
                shown = f"{100 * share:.0f}" if share >= 0.005 else "·"
                axes.text(
                    predicted, true, shown, ha="center", va="center", fontsize=6,
                    color="white" if share > _FROM_DARK else INK,
                )  # fmt: skip
            axes.set_title(title)
            axes.set_xlabel("predicted class")
            digits = range(len(shares))
            axes.set_xticks(digits)
            axes.set_yticks(digits)
            for digit, label in enumerate(axes.get_yticklabels()):
                if digit in hard:
                    label.set_fontweight("bold")
                    label.set_color(COLOURS[1])
            axes.tick_params(length=0)
            for spine in axes.spines.values():
                spine.set_visible(False)
        pair[0].set_ylabel("true class")
    return figure


def methods_figure(result: Mapping[str, Any]) -> Figure:
    """Draw accuracy by class before and after LoRA, and accuracy against trained parameters.

    Args:
        result: of the experiment ``lab-mnist``.
    """
    with style():
        figure = new_figure(height_cm=7.2)
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        _classes(left, result)
        _against_parameters(right, result)
        shared_legend(figure, [left, right], 4)
    return figure


def _classes(axes: Axes, result: Mapping[str, Any]) -> None:
    rank = result["settings"]["rank"]
    (lora,) = [row for row in result["methods"] if row["name"] == f"lora-{rank}"]
    before, after = (
        100 * np.array([test["classes"] for test in tests])
        for tests in (result["baseline"]["test"], lora["test"])
    )  # (seeds, 10)
    places = np.arange(before.shape[1])
    for values, shift, colour, name in (
        (before, -0.2, COLOURS[5], "baseline"),
        (after, 0.2, COLOURS[0], f"LoRA, rank {rank}"),
    ):
        mean = values.mean(0)
        spread = np.abs([values.min(0), values.max(0)] - mean)
        axes.bar(
            places + shift, mean, 0.38, color=colour, label=name, yerr=spread,
            error_kw={"linewidth": 0.6, "ecolor": MUTED},
        )  # fmt: skip
    hard = result["baseline"]["hard"]
    axes.set_xticks(places)
    for digit, label in enumerate(axes.get_xticklabels()):
        if digit in hard:
            label.set_fontweight("bold")
            label.set_color(COLOURS[1])
    axes.set_ylim(0, 104)
    axes.set_yticks(range(0, 101, 20))
    axes.set_title("Accuracy by class")
    axes.set_xlabel("class")
    axes.set_ylabel("% of the test images")
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")


def _against_parameters(axes: Axes, result: Mapping[str, Any]) -> None:
    base = 100 * np.mean([test["mean"] for test in result["baseline"]["test"]])
    named: set[str] = set()
    for row in result["methods"]:
        kind = "lora" if row["name"].startswith("lora-") else row["name"]
        label, marker = _LOOKS.get(kind, (kind, "x"))
        values = 100 * np.array([test["mean"] for test in row["test"]])
        mean = values.mean()
        axes.errorbar(
            row["parameters"] * _APART.get(kind, 1), mean,
            yerr=[[mean - values.min()], [values.max() - mean]],
            color=COLOURS[list(_LOOKS).index(kind) if kind in _LOOKS else 6], marker=marker,
            linestyle="none", elinewidth=0.7, label="" if kind in named else label,
        )  # fmt: skip
        named.add(kind)
    lora = sorted(
        (row["parameters"], 100 * np.mean([test["mean"] for test in row["test"]]), row["name"])
        for row in result["methods"]
        if row["name"].startswith("lora-")
    )
    axes.plot(
        [point[0] for point in lora],
        [point[1] for point in lora],
        color=COLOURS[0],
        linewidth=0.8,
        zorder=1,
    )
    for parameters, height, name in lora:
        axes.annotate(
            f"r {name.removeprefix('lora-')}", (parameters, height), (3.5, -8),
            textcoords="offset points", fontsize=6, color=MUTED,
        )  # fmt: skip
    axes.axhline(base, color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)), label="baseline, mean")
    axes.set_xscale("log")
    _count_marks(axes, [row["parameters"] for row in result["methods"]])
    axes.set_title("Accuracy against parameters")
    axes.set_xlabel("trained parameters, logarithmic")
    axes.set_ylabel("mean over the classes, %")
    axes.grid(axis="y")


def _count_marks(axes: Axes, counts: Sequence[int]) -> None:
    marks = [m * 10**e for e in range(8) for m in (1, 3)]
    low, high = min(counts) / 1.6, 1.6 * max(counts)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator([mark for mark in marks if low <= mark <= high]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


def examples_figure(examples: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw images that the baseline took for another class, with what was said of them.

    Args:
        examples: the part ``examples`` of the result of the experiment ``lab-mnist``.
    """
    with style():
        figure = new_figure(height_cm=2.7)
        every = figure.subplots(1, max(10, len(examples)), squeeze=False)[0]
        for axes in every:
            axes.set_axis_off()
        for axes, example in zip(every, examples, strict=False):
            axes.imshow(example["pixels"], cmap="gray_r")
            right = example["after"] == example["true"]
            axes.set_title(
                f"is {example['true']}", loc="center", fontsize=7, pad=3, fontweight="normal"
            )
            axes.text(
                0.5, -0.08, f"{example['before']} → {example['after']}", transform=axes.transAxes,
                ha="center", va="top", fontsize=7, color=COLOURS[2] if right else COLOURS[1],
                fontweight="bold" if right else "normal",
            )  # fmt: skip
    return figure


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figures of the methods, of confusions and of examples."""
    yield "lab-mnist-methods", methods_figure(result)
    yield "lab-mnist-confusion", confusion_figure(result)
    if result["examples"]:
        yield "lab-mnist-examples", examples_figure(result["examples"])
