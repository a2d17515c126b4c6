"""Heat maps of patches: the residual stream by place and position, heads over all pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from tinylm.config import RunConfig
from tinylm.report.drawing import INK, Drawn, new_figure, style

EFFECTS = LinearSegmentedColormap.from_list(
    "tinylm-effects", ["#a6611a", "#dfc27d", "#f5f5f5", "#80cdc1", "#01665e"]
)
"""Shades of an effect between -1 and 1; the middle is none."""
TITLES = {"denoising": "Clean into corrupted: suffices", "noising": "Corrupted into clean: needed"}
_SHADES = Normalize(-1, 1, clip=True)
_DARK = 0.6
_MOST_NUMBERS = 8
"""Heads of a layer up to which their numbers are written into the cells."""


def measured_behaviours(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the behaviours of which enough pairs are answered right to be patched."""
    return [behaviour for behaviour in result["behaviours"] if "example" in behaviour]


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield a figure of each behaviour's example, and one of the heads over all pairs."""
    behaviours = measured_behaviours(result)
    for behaviour in behaviours:
        yield f"patching-{behaviour['name']}", stream_figure(behaviour, result["places"])
    if behaviours:
        yield "patching-heads", heads_figure(behaviours, result["heads"])


def stream_figure(behaviour: Mapping[str, Any], places: Sequence[str]) -> Figure:
    """Draw what patching the stream at each place and position does to one pair.

    Args:
        behaviour: of the result of the experiment ``patching``.
        places: of the residual stream, as activations are named.
    """
    example = behaviour["example"]
    words = [
        clean if clean == corrupted else f"{clean} / {corrupted}"
        for clean, corrupted in zip(example["clean"], example["corrupted"], strict=True)
    ]
    with style():
        figure = new_figure(height_cm=3.4 + 0.72 * len(places))
        both = figure.subplots(2, 1, sharex=True)
        for axes, (way, title) in zip(both, TITLES.items(), strict=True):
            values = np.array(example[way]["stream"])
            axes.imshow(values, cmap=EFFECTS, norm=_SHADES, aspect="auto", interpolation="nearest")
            axes.set_title(title)
            axes.set_yticks(range(len(places)), [place_label(place) for place in places])
            _bare(axes)
        both[1].set_xticks(range(len(words)), words, rotation=90, parse_math=False)
        _scale(figure, both)
    return figure


def heads_figure(behaviours: Sequence[Mapping[str, Any]], heads: int) -> Figure:
    """Draw what patching each head at all positions does, the mean over pairs.

    Args:
        behaviours: of the result of the experiment ``patching``.
        heads: of a layer.
    """
    layers = len(behaviours[0]["denoising"]["heads"]) // heads
    with style():
        figure = new_figure(height_cm=1.6 + len(behaviours) * (1.1 + 0.5 * layers))
        panels = figure.subplots(len(behaviours), 2, squeeze=False, sharex=True, sharey=True)
        for row, behaviour in zip(panels, behaviours, strict=True):
            for axes, (way, title) in zip(row, TITLES.items(), strict=True):
                means = [value[0] for value in behaviour[way]["heads"]]
                _matrix(axes, np.array(means, dtype=float).reshape(layers, heads))
                axes.set_title(f"{behaviour['asks']}: {title.partition(': ')[2]}")
                _bare(axes)
            row[0].set_ylabel("layer")
        for axes in panels[-1]:
            axes.set_xlabel("head")
            axes.set_xticks(range(heads), range(1, heads + 1))
        panels[0][0].set_yticks(range(layers), range(1, layers + 1))
        _scale(figure, panels)
    return figure


def place_label(place: str) -> str:
    """Return a place of the stream in words: "before layer 1"."""
    _, layer, part = place.split(".")
    where = {"input": "before", "middle": "within", "residual": "after"}[part]
    return f"{where} layer {int(layer) + 1}"


def place_in_words(place: str) -> str:
    """Return a place of the stream as in a sentence: "from the attention of layer 1 on"."""
    _, layer, part = place.split(".")
    where = {"input": "before", "middle": "from the attention of", "residual": "after"}[part]
    return f"{where} layer {int(layer) + 1}" + " on" * (part == "middle")


def _matrix(axes: Axes, values: np.ndarray[Any, Any]) -> None:
    axes.imshow(values, cmap=EFFECTS, norm=_SHADES, aspect="auto", interpolation="nearest")
    if values.shape[1] > _MOST_NUMBERS:
        return
    for (row, column), value in np.ndenumerate(values):
        axes.text(
            column, row, f"{round(100 * value)}".replace("-", "−"), ha="center", va="center",
            fontsize=6.5, color="white" if abs(value) > _DARK else INK,
        )  # fmt: skip


def _bare(axes: Axes) -> None:
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _scale(figure: Figure, panels: Any) -> None:
    bar = figure.colorbar(ScalarMappable(_SHADES, EFFECTS), ax=panels, fraction=0.03, pad=0.02)
    bar.set_ticks([-1, 0, 1], labels=["−1", "0", "1"])
    bar.set_label("effect of a patch")
    bar.outline.set_visible(False)
