"""How wide words are in the figures' font."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from tinylm.report.drawing import CM

POINTS_A_CM = 72 * CM


def text_width(labels: Sequence[str], size: float) -> float:
    """Return the width in centimetres of the longest label."""
    return max(map(_letters_wide, labels)) * size / POINTS_A_CM


@cache
def _letters_wide(label: str) -> float:
    """Return the width of a label in units of its size, from the font itself."""
    font = FontProperties(family="DejaVu Sans", size=100)
    width, _, _ = text_to_path.get_text_width_height_descent(label, font, ismath=False)
    return float(width) / 100
