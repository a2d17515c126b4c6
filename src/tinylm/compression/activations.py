"""Inputs of quantized maps rounded to 8 bits: by the range of each row, or by one range for all.

*Dynamic*: each row's own least and largest number, found as it is multiplied; no calibration, at
the cost of a pass over the input. *Static*: one range a map, chosen from calibration texts
(``ranges``). What is rounded is what the codes multiply: the input over its scale, if it has one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tinylm.compression.calibration import Columns, Histogram, Statistic, observe
from tinylm.compression.ranges import Range, RangeMethod, histogram_about_zero
from tinylm.model.base import GenerativeModel
from tinylm.numbers.quantized import INPUTS, QuantizedLinear


class _Divided:
    """A statistic of inputs that are divided by a scale first."""

    def __init__(self, statistic: Statistic, scale: Tensor | None) -> None:
        self.statistic, self.scale = statistic, scale

    def add(self, rows: Tensor) -> None:
        self.statistic.add(rows if self.scale is None else rows / self.scale.to(rows.dtype))


def quantized_maps(model: nn.Module) -> dict[str, QuantizedLinear]:
    """Return path -> map of a model's maps whose weight is kept in few bits."""
    return {p: m for p, m in model.named_modules() if isinstance(m, QuantizedLinear)}


def round_dynamically(model: nn.Module) -> None:
    """Let every quantized map of a model round its inputs by each row's own range."""
    for module in quantized_maps(model).values():
        module.rounding, module.input_range = "dynamic", None


def round_statically(
    model: GenerativeModel,
    ids: Tensor,
    choose: RangeMethod,
    real: Tensor | None = None,
    batch_size: int = 8,
) -> dict[str, Range]:
    """Let every quantized map of a model round its inputs by one range.

    The texts are read twice: for the extremes, then for the histogram between them; nothing is
    rounded meanwhile but the weights.

    Args:
        model: changed in place.
        ids: texts to calibrate with, (texts, seq).
        choose: as from ``ranges.range_method``.
        real: (texts, seq), False where a token is padding; None: all are real.
        batch_size: texts that are read at once.

    Returns:
        Path -> the range of its inputs.

    Raises:
        CompressionError: if there is no text, or an input is not finite.
    """
    maps = quantized_maps(model)
    for module in maps.values():
        module.rounding, module.input_range = None, None
    columns = {path: Columns() for path in maps}
    histograms: dict[str, Histogram] = {}

    def read(statistics: dict[str, Columns] | dict[str, Histogram]) -> None:
        seen = {path: [_Divided(each, maps[path].input_scale)] for path, each in statistics.items()}
        observe(model, ids, seen, real, batch_size)

    read(columns)
    histograms = {path: histogram_about_zero(each) for path, each in columns.items()}
    read(histograms)
    ranges = {path: choose(histogram, INPUTS) for path, histogram in histograms.items()}
    for path, module in maps.items():
        device = module.quantized.stored["codes"].device
        module.rounding = "static"
        module.input_range = torch.tensor(ranges[path], device=device)
    return ranges
