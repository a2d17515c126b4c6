"""Attention on paper: heatmaps, and words joined by lines.

A heatmap has a row for each query (the word that looks) and a column for each key (the word that
is looked at); what lies in a query's future is left blank. The line form writes the words in two
columns, queries left and keys right, and joins them by lines as wide and as dark as the weight
(Vig 2019, "A Multiscale Visualization of Attention in the Transformer Model"; Clark et al. 2019
print heads so). Every panel of every figure has the same scale, 0 to 1, so heads can be compared.

Lines below ``SMALLEST_WEIGHT`` are left out, and heatmaps are stored as images, which keeps an
SVG of 24 heads under 200 KB. A grid fits one A4 page: a layer's heads are wrapped over as many
rows as give the words their best size; where no arrangement makes them legible, panels carry
numbers and the numbered words stand below.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray
from torch import Tensor

from tinylm.report.figures import (
    CM,
    COLOURS,
    INK,
    MUTED,
    RULE,
    TEXT_HEIGHT_CM,
    TEXT_WIDTH_CM,
    WEIGHTS,
    new_figure,
    style,
)

SMALLEST_WEIGHT = 0.04
"""Lines thinner than this are not drawn: they would be hardly visible, and there are many."""
LONGEST_LABEL = 12
"""Characters of a word that are printed before it is cut with "…"."""

_POINTS_A_CM = 72 * CM
_TITLE_TEXT = 9.0  # points, as all sizes of text
_LARGEST_TEXT = 8.0
_GOOD_TEXT = 6.2  # words this large are read without effort
_SMALLEST_TEXT = 4.5  # smaller words are not printed at the panels
_SMALL_TEXT = 6.5
_NUMBER_TEXT = 5.5
_TITLE_LINE = 0.42  # centimetres
_NUMBERED_LINE = 0.36  # centimetres
_LINE_SPACING = 1.15  # pitch of words in a column / their font size
_CHARACTER_WIDTH = 0.6  # mean width of a character of DejaVu Sans / its font size
_BOLD_WIDTH = 0.68
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
    grid = _heatmap_page(layers, heads, labels, _title_height(title))
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
                "\n".join(_numbered(labels)),
                ha="left",
                va="bottom",
                fontsize=_SMALL_TEXT,
                linespacing=1.4,
                parse_math=False,
            )
        _draw_colour_bar(figure, grid)
    return figure


def heatmap(pattern: Tensor, words: Sequence[str], title: str) -> Figure:
    """Draw one head large, weights of 0.05 and more printed in the cells if they have room.

    Args:
        pattern: (seq, seq), weights between 0 and 1.
        words: (seq).
        title: printed above.

    Raises:
        ValueError: if the shapes do not fit.
    """
    weights = _checked(pattern, words, 2)
    seq = len(words)
    labels = _labels(words)
    panel = min(11.0, max(5.0, seq * 0.8))
    text = min(_LARGEST_TEXT, panel / seq * _POINTS_A_CM / _LINE_SPACING)
    edge = 0.9 + _text_width(labels, text)
    grid = _Grid(
        panel_width=panel,
        panel_height=panel,
        left=(TEXT_WIDTH_CM - panel - edge) / 2 + edge,
        top=_title_height(title),
        layer_top=0.6,
        bottom=edge,
        text=text,
    )
    with style():
        figure = new_figure(TEXT_WIDTH_CM, grid.height, layout="none")
        _draw_title(figure, grid, title)
        axes = _add_axes(figure, grid, 0, 0, 0)
        _draw_heatmap(axes, weights)
        _write_words(axes, labels, grid, left=True, below=True)
        size = min(7.0, panel / seq * _POINTS_A_CM / 2.4)
        if size >= _SMALLEST_TEXT:
            for i, j in zip(*np.nonzero(weights >= 0.05), strict=True):
                axes.text(
                    j,
                    i,
                    f"{weights[i, j]:.2f}".removeprefix("0"),
                    fontsize=size,
                    ha="center",
                    va="center_baseline",
                    color="white" if weights[i, j] > 0.68 else INK,  # where contrasts are equal
                )
        axes.set_ylabel("from (query)", color=MUTED, fontsize=7)
        axes.set_xlabel("to (key)", color=MUTED, fontsize=7)
        _draw_colour_bar(figure, grid)
    return figure


def line_figure(
    patterns: Tensor, words: Sequence[str], title: str, head: int | None = None
) -> Figure:
    """Draw a layer's heads as two columns of words joined by lines, one panel a head.

    Args:
        patterns: (heads, seq, seq), weights between 0 and 1.
        words: (seq).
        title: printed above.
        head: draw this head alone, large; counts from 0. Its panel is then not named, so the
            title should name it.

    Raises:
        ValueError: if the shapes do not fit or there is no such head.
    """
    weights = _checked(patterns, words, 3)
    if head is not None and not 0 <= head < len(weights):
        raise ValueError(f"there is no head {head}: the layer has {len(weights)}, from 0")
    labels = _labels(words)
    shown = range(len(weights)) if head is None else [head]
    grid = _line_page(len(shown), labels, _title_height(title))
    with style():
        figure = new_figure(TEXT_WIDTH_CM, grid.height, layout="none")
        _draw_title(figure, grid, title)
        for place, index in enumerate(shown):
            row, column = divmod(place, grid.columns)
            axes = _add_axes(figure, grid, 0, row, column)
            # The first four colours only: thin lines in the paler ones would be lost.
            colour = COLOURS[0] if head is not None else COLOURS[index % 4]
            _draw_lines(axes, weights[index], labels, grid, colour)
            if head is None:
                axes.set_title(f"Head {index + 1}", fontsize=7, loc="center", pad=3)
    return figure


@dataclass(frozen=True)
class _Grid:
    """Where panels stand on a page; all lengths in centimetres."""

    panel_width: float
    panel_height: float
    layers: int = 1
    rows: int = 1
    """Rows of panels a layer."""
    columns: int = 1
    gap_x: float = 0.0
    gap_y: float = 0.0
    """Height above each panel, for its name."""
    left: float = 0.0
    """Width of what stands left of the panels."""
    top: float = 0.0
    """Height of the title."""
    layer_top: float = 0.0
    """Height above each layer, for its name."""
    bottom: float = 0.0
    """Height of what stands below the last panels."""
    text: float = _LARGEST_TEXT
    """Font size of the words, in points."""
    numbered: bool = False
    """Whether the panels carry numbers, and the words stand below the grid."""

    @property
    def layer_height(self) -> float:
        return self.layer_top + self.rows * (self.panel_height + self.gap_y)

    @property
    def height(self) -> float:
        return self.top + self.layers * self.layer_height + self.bottom


def _heatmap_page(layers: int, heads: int, labels: Sequence[str], top: float) -> _Grid:
    """Wrap heads so that words are well read, and if none does, as large as they can be."""
    best: _Grid | None = None
    choices = sorted({math.ceil(heads / rows) for rows in range(1, heads + 1)}, reverse=True)
    for columns in choices:  # 12 heads: 12, 6, 4, … columns, never 11 and a row of 1
        grid = _heatmap_columns(columns, layers, heads, labels, top, numbered=False)
        if grid is not None and grid.text >= _GOOD_TEXT:
            return grid  # the fewest rows that are well read
        if grid is not None and (best is None or grid.text > best.text + 0.1):
            best = grid
    if best is not None and best.text >= _SMALLEST_TEXT:
        return best
    numbered = [
        grid
        for columns in choices
        if (grid := _heatmap_columns(columns, layers, heads, labels, top, numbered=True))
    ]
    if not numbered:
        raise ValueError(f"{layers} layers of {heads} heads do not fit one page")
    enough = 0.85 * max(grid.panel_width for grid in numbered)  # not a page for a hair's breadth
    return next(grid for grid in numbered if grid.panel_width >= enough)


def _heatmap_columns(
    columns: int, layers: int, heads: int, labels: Sequence[str], top: float, *, numbered: bool
) -> _Grid | None:
    """Return the largest panels in so many columns; None if the page has no room for them."""
    seq = len(labels)
    rows = math.ceil(heads / columns)
    gap_x, gap_y, layer_top = 0.2, 0.42, 0.5
    text = _NUMBER_TEXT if numbered else _LARGEST_TEXT
    left, bottom = 0.45, 0.65 + _NUMBERED_LINE * len(_numbered(labels))
    panel = 0.0
    for _ in range(3):  # the edges depend on the words' size, and that on the panels'
        if not numbered:
            left = bottom = 0.2 + _text_width(labels, text)
        wide = (TEXT_WIDTH_CM - left - 0.1 - (columns - 1) * gap_x) / columns
        free = TEXT_HEIGHT_CM - top - bottom - layers * (layer_top + rows * gap_y)
        largest = seq * _LARGEST_TEXT * _LINE_SPACING / _POINTS_A_CM
        panel = min(wide, free / (layers * rows), max(largest, 1.2))
        if not numbered:
            text = max(1.0, min(_LARGEST_TEXT, panel / seq * _POINTS_A_CM / _LINE_SPACING))
    if panel < 0.5:
        return None
    if columns > 1:  # spread panels that the page's height limits over its width
        gap_x = min(0.9, (TEXT_WIDTH_CM - left - 0.1 - columns * panel) / (columns - 1))
    return _Grid(
        panel_width=panel,
        panel_height=panel,
        layers=layers,
        rows=rows,
        columns=columns,
        gap_x=gap_x,
        gap_y=gap_y,
        left=left,
        top=top,
        layer_top=layer_top,
        bottom=bottom,
        text=text,
        numbered=numbered,
    )


def _line_page(heads: int, labels: Sequence[str], top: float) -> _Grid:
    """Give one head 9 cm; put up to four beside each other, fewer for long words."""
    seq = len(labels)
    alone = heads == 1
    text = 8.5 if alone else 7.0
    gap_x, gap_y = 0.35, 0.3 if alone else 0.65
    need = 2 * _text_width(labels, text) + 1.2  # words, and room for the lines
    columns = max(1, min(heads, 4, int((TEXT_WIDTH_CM + gap_x) / (need + gap_x))))
    rows = math.ceil(heads / columns)
    columns = math.ceil(heads / rows)  # 5 heads: 3 and 2, not 4 and 1
    tall = seq * text * (1.6 if alone else 1.35) / _POINTS_A_CM
    bottom = 0.1
    free = (TEXT_HEIGHT_CM - top - bottom - rows * gap_y) / rows
    if tall > free:
        text *= free / tall
        tall = free
    wide = 9.0 if alone else (TEXT_WIDTH_CM - (columns - 1) * gap_x) / columns
    return _Grid(
        panel_width=wide,
        panel_height=tall,
        rows=rows,
        columns=columns,
        gap_x=gap_x,
        gap_y=gap_y,
        left=(TEXT_WIDTH_CM - wide) / 2 if alone else 0.0,
        top=top,
        bottom=bottom,
        text=text,
    )


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


def _text_width(labels: Sequence[str], size: float) -> float:
    """Return the width in centimetres that the longest label needs, roughly."""
    return max(len(label) for label in labels) * _CHARACTER_WIDTH * size / _POINTS_A_CM


def _wrapped(text: str, size: float, character_width: float) -> list[str]:
    characters = int(TEXT_WIDTH_CM * _POINTS_A_CM / (size * character_width))
    return textwrap.wrap(text, characters, break_on_hyphens=False) or [""]


def _numbered(labels: Sequence[str]) -> list[str]:
    """Return the words with their numbers, from 1, wrapped to the text's width."""
    # A joiner that does not break keeps a number with its word; it becomes a space afterwards.
    listed = "   ".join(f"{i}\0{label}" for i, label in enumerate(labels, 1))
    lines = _wrapped(f"From the top and from the left:   {listed}", _SMALL_TEXT, _CHARACTER_WIDTH)
    return [line.replace("\0", " ") for line in lines]


def _title_height(title: str) -> float:
    return 0.15 + _TITLE_LINE * len(_wrapped(title, _TITLE_TEXT, _BOLD_WIDTH))


def _draw_title(figure: Figure, grid: _Grid, title: str) -> None:
    figure.text(
        0.0,
        1 - 0.05 / grid.height,
        "\n".join(_wrapped(title, _TITLE_TEXT, _BOLD_WIDTH)),
        ha="left",
        va="top",
        fontsize=_TITLE_TEXT,
        fontweight="bold",
        parse_math=False,
    )


def _draw_layer_name(figure: Figure, grid: _Grid, layer: int) -> None:
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


def _add_axes(figure: Figure, grid: _Grid, layer: int, row: int, column: int) -> Axes:
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


def _write_words(
    axes: Axes, labels: Sequence[str], grid: _Grid, *, left: bool, below: bool
) -> None:
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


def _draw_colour_bar(figure: Figure, grid: _Grid) -> None:
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
    axes: Axes, weights: NDArray[np.float64], labels: Sequence[str], grid: _Grid, colour: str
) -> None:
    seq = len(labels)
    start = (_text_width(labels, grid.text) + 0.1) / grid.panel_width
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
