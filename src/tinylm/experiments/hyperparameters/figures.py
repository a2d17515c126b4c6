"""The figure of perplexity against one setting at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import mean
from typing import Any

from matplotlib.figure import Figure

from tinylm.config import RunConfig
from tinylm.report.axes import log_ticks
from tinylm.report.drawing import COLOURS, INK, Drawn, new_figure, style
from tinylm.report.formatting import setting

_PANELS = {"num_layers": "layers", "num_heads": "heads", "learning_rate": "learning rate"}


def hyperparameters_figure(result: Mapping[str, Any]) -> Figure:
    """Draw the validation perplexity by depth, heads and learning rate, a panel each.

    Args:
        result: of the experiment ``hyperparameters``.
    """
    own = [math.exp(loss) for loss in result["repeats"]]
    average = math.exp(mean(result["repeats"]))
    with style():
        figure = new_figure(height_cm=5.6)
        panels = figure.subplots(1, len(_PANELS), sharey=True)
        for axes, (varied, label) in zip(panels, _PANELS.items(), strict=True):
            rows = [row for row in result["changes"] if row["varied"] == varied]
            changed = {row["value"]: math.exp(row["validation_loss"]) for row in rows}
            places = sorted({*changed, result["own"][varied]})
            middle = places.index(result["own"][varied])
            line = [changed.get(place, average) for place in places]
            axes.plot(range(len(places)), line, color=COLOURS[0], linewidth=1, zorder=1)
            others = [i for i in range(len(places)) if i != middle]
            axes.plot(others, [line[i] for i in others], linestyle="none", marker="o",
                      markerfacecolor="white", markeredgecolor=COLOURS[0])  # fmt: skip
            axes.plot([middle] * len(own), own, linestyle="none", marker="o", color=INK)
            axes.plot(middle, average, marker="_", markersize=10, markeredgewidth=1.4, color=INK)
            axes.set_xticks(range(len(places)), [setting(place) for place in places])
            axes.set_xlabel(label)
            axes.margins(x=0.15)
            axes.grid(axis="y")
        panels[0].set_yscale("log")
        log_ticks(panels[0])
        panels[0].set_ylabel("perplexity, logarithmic")
    return figure


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figure of the changes."""
    yield "hyperparameters", hyperparameters_figure(result)
