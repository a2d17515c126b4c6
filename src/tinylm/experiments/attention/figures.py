"""Attention on paper: heatmaps, and words joined by lines.

A heatmap has a row for each query token and a column for each key token; what lies in a query's
future is left blank. The line form writes the words in two columns, queries left and keys right,
and joins them by lines as wide and as dark as the weight (Vig 2019, "A Multiscale Visualization of
Attention in the Transformer Model"; Clark et al. 2019 print heads so). Every panel of every figure
has the same scale, 0 to 1, so heads can be compared.

Lines below ``SMALLEST_WEIGHT`` are left out, and heatmaps are stored as images, which keeps an
SVG of 24 heads under 200 KB. A grid fits one A4 page: a layer's heads are wrapped over as many
rows as give the words their best size; where no arrangement makes them legible, panels carry
numbers and the numbered words stand below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray
from torch import Tensor

from tinylm.experiments.attention.figure_layout import (
    BOLD_WIDTH,
    SMALL_TEXT,
    TITLE_TEXT,
    Grid,
    heatmap_page,
    line_page,
    numbered_words,
    title_height,
    wrapped,
)
from tinylm.report.drawing import (
    COLOURS,
    MUTED,
    RULE,
    TEXT_WIDTH_CM,
    WEIGHTS,
    new_figure,
    style,
)
from tinylm.report.lettering import text_width

SMALLEST_WEIGHT = 0.04
"""Lines thinner than this are not drawn: they would be hardly visible, and there are many."""
LONGEST_LABEL = 12
"""Characters of a word that are printed before it is cut with "…"."""

_WIDEST_LINE = 2.6  # points, at weight 1
_LINE_LEVELS = 20  # steps of width and darkness between weight 0 and 1


def heatmap_grid(patterns: Tensor, words: Sequence[str], title: str) -> Figure:
    """Draw every head of every layer as a small heatmap, on one page at most.

    Words stand on the outer edges only.

    Args:
        patterns: (layers, heads, seq, seq), weights between 0 and 1.
        words: (seq).
        title: printed above.

    Raises:
        ValueError: if the shapes do not fit, or the heads are too many for a page.
    """
    weights = _checked(patterns, words, 4)
    layers, heads = weights.shape[:2]
    labels = _labels(words)
    grid = heatmap_page(layers, heads, labels, title_height(title))
    with style():
        figure = new_figure(TEXT_WIDTH_CM, grid.height, layout="none")
        _draw_title(figure, grid, title)
        for layer in range(layers):
            _draw_layer_name(figure, grid, layer)
            for head in range(heads):
                row, column = divmod(head, grid.columns)
                axes = _add_axes(figure, grid, layer, row, column)
                _draw_heatmap(axes, weights[layer, head])
                axes.set_title(
                    f"Head {head + 1}", fontsize=6.5, fontweight="normal", color=MUTED, pad=1.5
                )
                below = layer == layers - 1 and head + grid.columns >= heads
                _write_words(axes, labels, grid, left=column == 0, below=below)
        if grid.numbered:
            figure.text(
                0.0,
                0.08 / grid.height,
                "\n".join(numbered_words(labels)),
                ha="left",
                va="bottom",
                fontsize=SMALL_TEXT,
                linespacing=1.4,
                parse_math=False,
            )
        _draw_colour_bar(figure, grid)
    return figure


def line_figure(patterns: Tensor, words: Sequence[str], title: str) -> Figure:
    """Draw a layer's heads as two columns of words joined by lines, one panel a head.

    Args:
        patterns: (heads, seq, seq), weights between 0 and 1.
        words: (seq).
        title: printed above.

    Raises:
        ValueError: if the shapes do not fit.
    """
    weights = _checked(patterns, words, 3)
    labels = _labels(words)
    grid = line_page(len(weights), labels, title_height(title))
    with style():
        figure = new_figure(TEXT_WIDTH_CM, grid.height, layout="none")
        _draw_title(figure, grid, title)
        for head, pattern in enumerate(weights):
            row, column = divmod(head, grid.columns)
            axes = _add_axes(figure, grid, 0, row, column)
            # The first four colours only: thin lines in the paler ones would be lost.
            _draw_lines(axes, pattern, labels, grid, COLOURS[head % 4])
            axes.set_title(f"Head {head + 1}", fontsize=7, loc="center", pad=3)
    return figure


def _checked(patterns: Tensor, words: Sequence[str], dimensions: int) -> NDArray[np.float64]:
    """Return the patterns as an array.

    Raises:
        ValueError: if their shape does not fit the words.
    """
    seq = len(words)
    if patterns.dim() != dimensions or patterns.shape[-2:] != (seq, seq) or not patterns.numel():
        raise ValueError(
            f"patterns of shape {tuple(patterns.shape)} do not fit {seq} words "
            f"(wanted: {dimensions} dimensions, the last two {seq})"
        )
    array: NDArray[np.float64] = patterns.detach().double().cpu().numpy()
    return array


def _labels(words: Sequence[str]) -> list[str]:
    return [w if len(w) <= LONGEST_LABEL else w[: LONGEST_LABEL - 1] + "…" for w in words]


def _draw_title(figure: Figure, grid: Grid, title: str) -> None:
    figure.text(
        0.0,
        1 - 0.05 / grid.height,
        "\n".join(wrapped(title, TITLE_TEXT, BOLD_WIDTH)),
        ha="left",
        va="top",
        fontsize=TITLE_TEXT,
        fontweight="bold",
        parse_math=False,
    )


def _draw_layer_name(figure: Figure, grid: Grid, layer: int) -> None:
    y = grid.top + layer * grid.layer_height + 0.24
    figure.text(
        grid.left / TEXT_WIDTH_CM,
        1 - y / grid.height,
        f"Layer {layer + 1}",
        ha="left",
        va="top",
        fontsize=7.5,
        fontweight="bold",
    )


def _add_axes(figure: Figure, grid: Grid, layer: int, row: int, column: int) -> Axes:
    x = grid.left + column * (grid.panel_width + grid.gap_x)
    y = (
        grid.top
        + layer * grid.layer_height
        + grid.layer_top
        + row * (grid.panel_height + grid.gap_y)
        + grid.gap_y
    )
    return figure.add_axes(
        (
            x / TEXT_WIDTH_CM,
            1 - (y + grid.panel_height) / grid.height,
            grid.panel_width / TEXT_WIDTH_CM,
            grid.panel_height / grid.height,
        )
    )


def _draw_heatmap(axes: Axes, weights: NDArray[np.float64]) -> None:
    seq = len(weights)
    future = np.triu(np.ones((seq, seq), dtype=bool), 1)
    axes.imshow(
        np.ma.masked_array(weights, mask=future),
        cmap=WEIGHTS,
        vmin=0,
        vmax=1,
        interpolation="nearest",
        aspect="auto",
    )
    # The staircase that bounds what a query may see: without it, weight 0 and "cannot see" would
    # both be nearly white.
    steps = np.arange(seq + 1) - 0.5
    axes.plot(
        [*np.repeat(steps, 2)[1:], -0.5, -0.5],
        [*np.repeat(steps, 2)[:-1], seq - 0.5, -0.5],
        color=RULE,
        linewidth=0.5,
        clip_on=False,
    )
    axes.set_xlim(-0.5, seq - 0.5)
    axes.set_ylim(seq - 0.5, -0.5)
    axes.patch.set_visible(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, pad=1.5)
    axes.set_xticks([])
    axes.set_yticks([])


def _write_words(axes: Axes, labels: Sequence[str], grid: Grid, *, left: bool, below: bool) -> None:
    """Write the words, or the numbers 1, 5, 10, … of words, at the edges."""
    places = list(range(len(labels)))
    rotation = 90
    if grid.numbered:
        step = 5 if 5 * grid.panel_width / len(labels) > 0.3 else 10
        places = [0, *range(step - 1, len(labels), step)]
        labels = [str(i + 1) for i in places]
        rotation = 0
    options: dict[str, Any] = {"fontsize": grid.text, "parse_math": False}
    if left:
        axes.set_yticks(places, labels, **options)
    if below:
        axes.set_xticks(places, labels, rotation=rotation, **options)


def _draw_colour_bar(figure: Figure, grid: Grid) -> None:
    """Draw the scale below the title at the right, beside the first layer's name."""
    width, height, right = 2.6, 0.16, 0.2
    axes = figure.add_axes(
        (
            1 - (width + right) / TEXT_WIDTH_CM,
            1 - (grid.top + 0.05 + height) / grid.height,
            width / TEXT_WIDTH_CM,
            height / grid.height,
        )
    )
    shades = np.linspace(0, 1, 128)[None]
    axes.imshow(shades, cmap=WEIGHTS, aspect="auto", extent=(0, 1, 0, 1), vmin=0, vmax=1)
    axes.set_yticks([])
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=6.5)
    axes.tick_params(length=1.5, pad=1)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.text(-0.06, 0.5, "weight", ha="right", va="center", fontsize=6.5, color=MUTED)


def _draw_lines(
    axes: Axes, weights: NDArray[np.float64], labels: Sequence[str], grid: Grid, colour: str
) -> None:
    seq = len(labels)
    start = (text_width(labels, grid.text) + 0.1) / grid.panel_width
    visible = np.where(weights >= SMALLEST_WEIGHT, np.tril(weights), 0)
    level = np.ceil(visible * _LINE_LEVELS)
    # One path a level, weak lines first: a path for each line makes an SVG three times larger.
    for step in range(1, _LINE_LEVELS + 1):
        queries, keys = np.nonzero(level == step)
        if not len(queries):
            continue
        ends = np.empty((2 * len(queries), 2))
        ends[0::2] = np.column_stack([np.full(len(queries), start), queries])
        ends[1::2] = np.column_stack([np.full(len(keys), 1 - start), keys])
        strength = (step - 0.5) / _LINE_LEVELS
        axes.add_patch(
            PathPatch(
                Path(ends, [Path.MOVETO, Path.LINETO] * len(queries)),
                fill=False,
                edgecolor=(*to_rgb(colour), 0.15 + 0.8 * strength),
                linewidth=0.3 + _WIDEST_LINE * strength,
                capstyle="butt",
                clip_on=False,
            )
        )
    options: dict[str, Any] = {
        "fontsize": grid.text,
        "va": "center_baseline",
        "parse_math": False,
    }
    for i, label in enumerate(labels):
        axes.text(start - 0.05 / grid.panel_width, i, label, ha="right", **options)
        axes.text(1 - start + 0.05 / grid.panel_width, i, label, ha="left", **options)
    axes.set_xlim(0, 1)
    axes.set_ylim(seq - 0.5, -0.5)
    axes.set_axis_off()
