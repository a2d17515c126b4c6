"""Pictures of activations for a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from tinylm.model.loss import at_least_float32

_COLUMNS = 4
_MOST_LABELS = 40
"""Tokens up to which each is named on an axis."""
_WIDE = 7.0
"""Inches of a map of vectors: as many dimensions as can be told apart."""


def activation_figure(name: str, activation: Tensor, words: Sequence[str], across: str) -> Figure:
    """Draw an activation of one text.

    Args:
        name: of the activation.
        activation: (seq, size), or (heads, seq, keys or size): then a map a head.
        words: the tokens as text, (seq).
        across: what the last axis counts: ``key``, ``dimension``, ``vocabulary``.
    """
    values = at_least_float32(activation).cpu().numpy()
    maps = values if values.ndim == 3 else values[None]
    by_key = across == "key"
    columns = min(_COLUMNS, len(maps))
    rows = math.ceil(len(maps) / columns)
    labelled = len(words) <= _MOST_LABELS
    size = max(2.2, 0.2 * len(words)) if labelled else 4.0
    width = columns * size if by_key or columns > 1 else max(size, _WIDE)
    figure = Figure(figsize=(width + 1, rows * size + 1), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    shares = name.endswith(".pattern")
    seen = maps[np.isfinite(maps) & (maps > -1e30)]  # lower: scores of keys that are not seen
    high = 1.0 if shares else float(np.abs(seen).max(initial=0.0))
    low = 0.0 if shares else -high
    shades = "Blues" if shares else "RdBu_r"
    texts = [word.replace("$", r"\$") for word in words]  # not mathematics
    for place, axes in enumerate(grid.flat):
        if place >= len(maps):
            axes.set_axis_off()
            continue
        image = axes.imshow(
            maps[place],
            vmin=low,
            vmax=high,
            cmap=shades,
            aspect="auto",
            interpolation="nearest",  # else neighbouring tokens run into one another
        )
        if len(maps) > 1:
            axes.set_title(f"head {place}", fontsize=9)
        axes.set_xlabel(across, fontsize=8)
        if labelled:
            axes.set_yticks(range(len(texts)), texts, fontsize=7)
            if by_key:
                axes.set_xticks(range(len(texts)), texts, fontsize=7, rotation=90)
    figure.colorbar(image, ax=grid, shrink=0.8)
    figure.suptitle(name, fontsize=10)
    return figure
