"""Pictures of activations for a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from tinylm.model.loss import at_least_float32

_COLUMNS = 4
_MOST_LABELS = 40
"""Tokens up to which each is named on an axis."""


def activation_figure(name: str, activation: Tensor, words: Sequence[str]) -> Figure:
    """Draw an activation of one text.

    Args:
        name: of the activation.
        activation: (seq, size), or (heads, seq, keys or size): then a map a head.
        words: the tokens as text, (seq).
    """
    values = at_least_float32(activation).cpu().numpy()
    maps = values if values.ndim == 3 else values[None]
    by_key = name.endswith((".scores", ".pattern"))
    columns = min(_COLUMNS, len(maps))
    rows = math.ceil(len(maps) / columns)
    labelled = len(words) <= _MOST_LABELS
    size = max(2.2, 0.2 * len(words)) if labelled else 4.0
    figure = Figure(figsize=(columns * size + 1, rows * size + 1), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    seen = maps[maps > -1e30]  # scores of keys that are not seen
    low, high = (0.0, 1.0) if name.endswith(".pattern") else (seen.min(), seen.max())
    if not name.endswith(".pattern"):
        high = max(abs(low), abs(high))
        low = -high
    shades = "Blues" if name.endswith(".pattern") else "RdBu_r"
    texts = [word.replace("$", r"\$") for word in words]  # not mathematics
    for place, axes in enumerate(grid.flat):
        if place >= len(maps):
            axes.set_axis_off()
            continue
        image = axes.imshow(maps[place], vmin=low, vmax=high, cmap=shades, aspect="auto")
        if len(maps) > 1:
            axes.set_title(f"head {place}", fontsize=9)
        axes.set_xlabel("key" if by_key else "dimension", fontsize=8)
        if labelled:
            axes.set_yticks(range(len(texts)), texts, fontsize=7)
            if by_key:
                axes.set_xticks(range(len(texts)), texts, fontsize=7, rotation=90)
    figure.colorbar(image, ax=grid, shrink=0.8)
    figure.suptitle(name, fontsize=10)
    return figure
