"""The figure of the leaderboard: bits a byte by kind of model and tokenizer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from tinylm.config import RunConfig
from tinylm.experiments.leaderboard.section import averages, ordered
from tinylm.measurement import mean
from tinylm.report.drawing import COLOURS, RULE, Drawn, new_figure, shared_legend, style

Row = Mapping[str, Any]
_MARKS = "osD^vP*X"
_BAND = 0.7
"""Share of a model's row over which its tokenizers are spread."""


def leaderboard_figure(result: Row) -> Figure:
    """Draw a row for each kind of model, the best on average first, and a mark a tokenizer."""
    models = [row["name"] for row in ordered(averages(result, "model"))]
    tokenizers = list(dict.fromkeys(row["tokenizer"] for row in result["rows"]))
    with style():
        figure = new_figure(height_cm=3.0 + 1.35 * len(models))
        axes = figure.subplots()
        for number, tokenizer in enumerate(tokenizers):
            shift = _BAND * ((number + 0.5) / len(tokenizers) - 0.5)
            own = {row["model"]: row for row in result["rows"] if row["tokenizer"] == tokenizer}
            values = [mean(own[model]["bits_per_byte"]) for model in models]
            ends = [tuple(v.value if math.isnan(e) else e for e in v.ends) for v in values]
            axes.errorbar(
                [value.value for value in values],
                [place + shift for place in range(len(models))],
                xerr=[
                    [value.value - low for value, (low, _) in zip(values, ends, strict=True)],
                    [high - value.value for value, (_, high) in zip(values, ends, strict=True)],
                ],
                color=COLOURS[number % len(COLOURS)],
                marker=_MARKS[number % len(_MARKS)],
                linestyle="none",
                elinewidth=0.9,
                label=tokenizer,
            )
        for place in range(1, len(models)):
            axes.axhline(place - 0.5, color=RULE, linewidth=0.5)
        axes.set_yticks(range(len(models)), models)
        axes.set_ylim(len(models) - 0.5, -0.5)
        axes.set_xlabel("bits a byte of held-out text")
        axes.grid(axis="x")
        shared_legend(figure, [axes], len(tokenizers))
    return figure


def draw(result: Row, _: RunConfig) -> Drawn:
    """Yield the figure."""
    yield "leaderboard", leaderboard_figure(result)
