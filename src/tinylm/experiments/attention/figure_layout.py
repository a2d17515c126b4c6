"""Where the panels of an attention figure stand on the page, and how large their words are.

All lengths are centimetres, sizes of text points.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from tinylm.report.drawing import SMALLEST_LETTERS, TEXT_HEIGHT_CM, TEXT_WIDTH_CM
from tinylm.report.lettering import POINTS_A_CM, text_width

TITLE_TEXT = 9.0  # points, as all sizes of text
LARGEST_TEXT = 8.0
GOOD_TEXT = 6.2  # words this large are read without effort
SMALLEST_TEXT = SMALLEST_LETTERS  # smaller words are not printed at the panels
SMALL_TEXT = 6.5
NUMBER_TEXT = SMALLEST_LETTERS
BOTTOM = 0.1  # centimetres below lines
TITLE_LINE = 0.42  # centimetres
NUMBERED_LINE = 0.36  # centimetres
LINE_SPACING = 1.15  # pitch of words in a column / their font size
LINE_PITCH = 1.3  # the same between columns that lines join
CHARACTER_WIDTH = 0.6  # mean width of a character of DejaVu Sans / its font size
BOLD_WIDTH = 0.68


@dataclass(frozen=True)
class Grid:
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
    text: float = LARGEST_TEXT
    """Font size of the words, in points."""
    numbered: bool = False
    """Whether the panels carry numbers, and the words stand below the grid."""

    @property
    def layer_height(self) -> float:
        """Height of one layer, its name included."""
        return self.layer_top + self.rows * (self.panel_height + self.gap_y)

    @property
    def height(self) -> float:
        """Height of the figure."""
        return self.top + self.layers * self.layer_height + self.bottom


def heatmap_page(layers: int, heads: int, labels: Sequence[str], top: float) -> Grid:
    """Wrap heads so that words are well read, and if none does, as large as they can be."""
    best: Grid | None = None
    choices = sorted({math.ceil(heads / rows) for rows in range(1, heads + 1)}, reverse=True)
    for columns in choices:  # 12 heads: 12, 6, 4, … columns, never 11 and a row of 1
        grid = _heatmap_columns(columns, layers, heads, labels, top, numbered=False)
        if grid is not None and grid.text >= GOOD_TEXT:
            return grid  # the fewest rows that are well read
        if grid is not None and (best is None or grid.text > best.text + 0.1):
            best = grid
    if best is not None and best.text >= SMALLEST_TEXT:
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
) -> Grid | None:
    """Return the largest panels in so many columns; None if the page has no room for them."""
    seq = len(labels)
    rows = math.ceil(heads / columns)
    gap_x, gap_y, layer_top = 0.2, 0.42, 0.5
    text = NUMBER_TEXT if numbered else LARGEST_TEXT
    left, bottom = 0.45, 0.65 + NUMBERED_LINE * len(numbered_words(labels))
    panel = 0.0
    for _ in range(3):  # the edges depend on the words' size, and that on the panels'
        if not numbered:
            left = bottom = 0.2 + text_width(labels, text)
        wide = (TEXT_WIDTH_CM - left - 0.1 - (columns - 1) * gap_x) / columns
        free = TEXT_HEIGHT_CM - top - bottom - layers * (layer_top + rows * gap_y)
        largest = seq * LARGEST_TEXT * LINE_SPACING / POINTS_A_CM
        panel = min(wide, free / (layers * rows), max(largest, 1.2))
        if not numbered:
            text = max(1.0, min(LARGEST_TEXT, panel / seq * POINTS_A_CM / LINE_SPACING))
    if panel < 0.5:
        return None
    if columns > 1:  # spread panels that the page's height limits over its width
        gap_x = min(0.9, (TEXT_WIDTH_CM - left - 0.1 - columns * panel) / (columns - 1))
    return Grid(
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


def line_page(heads: int, labels: Sequence[str], top: float) -> Grid:
    """Give one head 9 cm; put up to four beside each other, fewer for long words."""
    seq = len(labels)
    alone = heads == 1
    text = 8.5 if alone else 7.0
    gap_x, gap_y = 0.35, 0.3 if alone else 0.65
    need = 2 * text_width(labels, text) + 1.2  # words, and room for the lines
    columns = max(1, min(heads, 4, int((TEXT_WIDTH_CM + gap_x) / (need + gap_x))))
    if _free(heads, columns, top, gap_y) < seq * SMALLEST_TEXT * LINE_PITCH / POINTS_A_CM:
        columns = min(heads, 4)  # short lines rather than small words
    rows = math.ceil(heads / columns)
    columns = math.ceil(heads / rows)  # 5 heads: 3 and 2, not 4 and 1
    tall = seq * text * (1.6 if alone else LINE_PITCH) / POINTS_A_CM
    free = _free(heads, columns, top, gap_y)
    if tall > free:
        text *= free / tall
        tall = free
    wide = 9.0 if alone else (TEXT_WIDTH_CM - (columns - 1) * gap_x) / columns
    return Grid(
        panel_width=wide,
        panel_height=tall,
        rows=rows,
        columns=columns,
        gap_x=gap_x,
        gap_y=gap_y,
        left=(TEXT_WIDTH_CM - wide) / 2 if alone else 0.0,
        top=top,
        bottom=BOTTOM,
        text=text,
    )


def _free(heads: int, columns: int, top: float, gap_y: float) -> float:
    """Return the height that a page has for each row of panels of lines."""
    rows = math.ceil(heads / columns)
    return (TEXT_HEIGHT_CM - top - BOTTOM - rows * gap_y) / rows


def wrapped(text: str, size: float, character_width: float) -> list[str]:
    """Return text in lines of the page's width; character_width is a part of the size."""
    characters = int(TEXT_WIDTH_CM * POINTS_A_CM / (size * character_width))
    return textwrap.wrap(text, characters, break_on_hyphens=False) or [""]


def numbered_words(labels: Sequence[str]) -> list[str]:
    """Return the words with their numbers, from 1, wrapped to the text's width."""
    # A joiner that does not break keeps a number with its word; it becomes a space afterwards.
    listed = "   ".join(f"{i}\0{label}" for i, label in enumerate(labels, 1))
    lines = wrapped(f"From the top and from the left:   {listed}", SMALL_TEXT, CHARACTER_WIDTH)
    return [line.replace("\0", " ") for line in lines]


def title_height(title: str) -> float:
    """Return the height of a wrapped title."""
    return 0.15 + TITLE_LINE * len(wrapped(title, TITLE_TEXT, BOLD_WIDTH))
