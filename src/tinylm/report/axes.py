"""What curves of several figures share: means over neighbours, marks of axes, looks of lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (2, 1)), (0, (5, 1, 1, 1)))
"""Lines that differ in more than colour, for a grey printer."""
_TWO_DECADES = 100.0
"""Ratio of the ends of an axis from which 1, 2 and 5 of each power of ten are marks enough."""


def smooth(values: Sequence[float], span: int) -> NDArray[np.float64]:
    """Return the mean of the ``span`` values around each, fewer at both ends.

    The window is centred: an average of earlier values only would lag behind a falling curve and
    show a loss that the model never had.
    """
    half = span // 2
    array = np.asarray(values, dtype=np.float64)
    reach = np.minimum(half, np.minimum(np.arange(len(array)), np.arange(len(array))[::-1]))
    sums = np.concatenate(([0.0], np.cumsum(array)))
    places = np.arange(len(array))
    means: NDArray[np.float64] = (sums[places + reach + 1] - sums[places - reach]) / (2 * reach + 1)
    return means


def smoothing_span(points: int) -> int:
    """Return over how many points a curve of ``points`` points is averaged."""
    return max(5, points // 25)


def log_ticks(axes: Axes, of: Literal["x", "y"] = "y") -> None:
    """Mark a logarithmic axis at round numbers, more of them where it is short."""
    low, high = axes.get_ylim() if of == "y" else axes.get_xlim()
    wide = high / low > _TWO_DECADES
    subs = (1.0, 2.0, 5.0) if wide else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    axis = axes.yaxis if of == "y" else axes.xaxis
    axis.set_major_locator(LogLocator(10, subs=subs, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())
