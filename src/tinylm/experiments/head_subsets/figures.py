"""The figure of heads' exact values, and of what subsets of each size reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from tinylm.config import RunConfig
from tinylm.report.axes import DASHES
from tinylm.report.drawing import COLOURS, INK, MUTED, Drawn, new_figure, style
from tinylm.report.formatting import head_name

_DRAWN = ("best", "Shapley", "attribution patching", "Taylor")


def head_subsets_figure(result: Mapping[str, Any]) -> Figure:
    """Draw the Shapley value of each head, a point a pair, and the reach of subsets by size.

    Args:
        result: of the experiment ``head-subsets``.
    """
    heads, across = result["heads"], result["num_heads"]
    with style():
        figure = new_figure(height_cm=6.6)
        left, right = figure.subplots(1, 2)
        names = [head_name(*divmod(i, across)) for i in range(len(heads))]
        left.bar(range(len(heads)), [head["value"] for head in heads], color=COLOURS[0])
        for place, head in enumerate(heads):
            points = head["by_pair"]
            left.plot([place] * len(points), points, ".", color=INK, markersize=2.5)
        left.axhline(0, color=MUTED, linewidth=0.6)
        left.set_xticks(range(len(heads)), names, rotation=90 if len(heads) > 8 else 0)
        left.set_xlabel("head")
        left.set_ylabel("Shapley value (logits)")
        left.set_title("What each head is worth")
        for number, name in enumerate(_DRAWN):
            right.plot(
                range(len(heads) + 1), result["subsets"][name], label=name,
                color=COLOURS[number], linestyle=DASHES[number],
            )  # fmt: skip
        right.axhline(result["whole"], color=MUTED, linewidth=0.6)
        right.set_xlabel("heads that are left")
        right.set_ylabel("logit difference")
        right.set_title("What subsets reach")
        right.legend()
        right.grid(axis="y")
    return figure


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figure of the heads."""
    yield "head-subsets", head_subsets_figure(result)
