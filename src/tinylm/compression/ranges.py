"""The range of a map's inputs that 8 bits are spread over, chosen from calibration texts.

Wide, and all values are rounded coarsely for the sake of a few; narrow, and those few are cut. Each
method reads a histogram of the inputs whose bins lie evenly about 0:

- *min-max*: all that was seen;
- *percentile*: all but a share of the values, the outermost (Wu et al. 2020, section 4.1);
- *mean squared error*: the share of the full range at which rounding and cutting together move
  the values least;
- *entropy*: the range at which the rounded values' distribution diverges least from the values'
  own (Kullback and Leibler), as NVIDIA's calibration for TensorRT does it (Migacz 2017).

0 is in every range, so that it stays 0. Where the format is symmetric, so is the range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from tinylm.compression.calibration import BINS, Columns, Histogram
from tinylm.errors import CompressionError
from tinylm.numbers.integers import IntegerFormat

PERCENTILE = 99.99
"""Of the values that are kept, in per cent."""
_SHARES = 100


class Range(NamedTuple):
    """Where the numbers lie that a format is spread over; 0 is within."""

    low: float
    high: float


def histogram_about_zero(columns: Columns, bins: int = BINS) -> Histogram:
    """Return an empty histogram for inputs whose extremes were seen in a pass before.

    Args:
        columns: of the inputs.
        bins: on each side of 0.

    Raises:
        CompressionError: if no input was seen, or one is not finite.
    """
    largest = float(columns.largest_absolute.amax()) or 1.0  # nothing but zeros: any range does
    return Histogram(-largest, largest, 2 * bins)


def min_max(histogram: Histogram, form: IntegerFormat) -> Range:
    """Return the range of all values."""
    return _of(form, *_ends(histogram))


def percentile(histogram: Histogram, form: IntegerFormat, share: float = PERCENTILE) -> Range:
    """Return the range of a share of the values.

    Symmetric: the least bound that so many absolute values do not exceed. Else half of what is left
    out lies at each end. Bounds are edges of bins, within what was seen.

    Args:
        histogram: about zero.
        form: of the inputs.
        share: of the values, in per cent.

    Raises:
        CompressionError: unless the share is above 0 and at most 100.
    """
    if not 0 < share <= 100:
        raise CompressionError(f"percentile = {share}: must be above 0 and at most 100")
    least, most = _ends(histogram)
    if form.symmetric:
        bound = _reached(_absolute(histogram), share / 100) * histogram.width
        return _of(form, max(least, -bound), min(most, bound))
    kept = (1 + share / 100) / 2
    size = len(histogram.counts)
    low = size - _reached(histogram.counts.flip(0), kept)
    high = _reached(histogram.counts, kept)
    bounds = [histogram.low + place * histogram.width for place in (low, high)]
    return _of(form, max(bounds[0], least), min(bounds[1], most))


def mean_squared_error(histogram: Histogram, form: IntegerFormat) -> Range:
    """Return the share of the full range at which values, as bins' middles, move least.

    Of shares that tie, the widest.
    """
    edges = histogram.edges
    middles = ((edges[1:] + edges[:-1]) / 2)[None]  # (1, bins)
    counts = histogram.counts.double()
    full = min_max(histogram, form)
    best, least = full, torch.inf
    for step in range(_SHARES, 0, -1):
        tried = Range(full.low * step / _SHARES, full.high * step / _SHARES)
        scale, zero = form.of_range(torch.tensor([[tried.low]]), torch.tensor([[tried.high]]))
        moved = form.decode(form.encode(middles, scale, zero), scale, zero) - middles
        error = float((moved[0].square() * counts).sum())
        if error < least:
            best, least = tried, error
    return best


def entropy(histogram: Histogram, form: IntegerFormat) -> Range:
    """Return the range of the least Kullback-Leibler divergence.

    Absolute values alone are looked at. The bound is tried at each bin's edge, from as many bins
    as there are levels up. The values' distribution has what lies beyond the bound in its last bin.
    The rounded one has levels of equal width: what is inside the bound and in one of them is spread
    evenly over its bins that are not empty. Of bounds that tie, the widest.

    Values that are all of one sign have all levels, in an asymmetric format; else half of them.
    """
    counts = _absolute(histogram)
    counts[0] = counts[1]  # exact zeros, of ReLU or padding, are no part of the shape
    low, high = _ends(histogram)
    one_sided = not form.symmetric and (low >= 0 or high <= 0)
    levels = 2 ** (form.bits - (not one_sided))
    bound = _least_divergence(counts, levels) * histogram.width
    return _of(form, max(low, -bound), min(high, bound))


def divergence(counts: Tensor, bound: int, levels: int) -> float:
    """Return the divergence of the rounded distribution from the values' own, in nats.

    Args:
        counts: of absolute values, (bins,).
        bound: bins that are inside.
        levels: which these are rounded to, at most as many.

    Returns:
        Infinite where a rounded value is impossible that does occur.
    """
    inside = counts[:bound].double()
    own = inside.clone()
    own[-1] += counts[bound:].sum()
    level = torch.arange(bound) * levels // bound
    filled = inside > 0
    sums = torch.zeros(levels, dtype=torch.float64).index_add_(0, level, inside)
    sizes = torch.zeros(levels, dtype=torch.float64).index_add_(0, level, filled.double())
    rounded = torch.where(filled, (sums / sizes.clamp(min=1))[level], 0.0)
    if not rounded.sum():
        return torch.inf
    own, rounded = own / own.sum(), rounded / rounded.sum()
    terms = torch.where(own > 0, own * (own / rounded).log(), 0.0)
    return float(terms.sum())


def _least_divergence(counts: Tensor, levels: int) -> int:
    """Return the number of bins inside the bound of the least divergence."""
    best, least = len(counts), torch.inf
    for bound in range(len(counts), min(levels, len(counts)) - 1, -1):
        tried = divergence(counts, bound, levels)
        if tried < least:
            best, least = bound, tried
    return best


def _absolute(histogram: Histogram) -> Tensor:
    """Return the counts of absolute values, (bins / 2,)."""
    below, above = histogram.counts.chunk(2)
    return below.flip(0) + above


def _reached(counts: Tensor, share: float) -> int:
    """Return how many bins, from the first, hold a share of all values."""
    sums = counts.cumsum(0).double()
    return int(torch.searchsorted(sums, share * sums[-1])) + 1


def _ends(histogram: Histogram) -> tuple[float, float]:
    """Return the least and the most that was seen.

    Raises:
        CompressionError: if nothing was.
    """
    if histogram.least > histogram.most:
        raise CompressionError("no input was seen: give texts to calibrate with")
    return histogram.least, histogram.most


def _of(form: IntegerFormat, low: float, high: float) -> Range:
    """Return a range with 0 in it, as wide on both sides if the format is symmetric."""
    if form.symmetric:
        high = max(-low, high)
        return Range(-high, high)
    return Range(min(low, 0.0), max(high, 0.0))


RangeMethod = Callable[[Histogram, IntegerFormat], Range]
RANGES: Mapping[str, RangeMethod] = {
    "min-max": min_max,
    "percentile": percentile,
    "mse": mean_squared_error,
    "entropy": entropy,
}
"""The methods by name."""


def range_method(name: str, share: float = PERCENTILE) -> RangeMethod:
    """Return a method by its name.

    Args:
        name: in ``RANGES``.
        share: of the values, in per cent, for the method that is about one.
    """
    methods: dict[str, RangeMethod] = {**RANGES, "percentile": partial(percentile, share=share)}
    return methods[name]
