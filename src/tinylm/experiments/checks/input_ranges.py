"""Ranges and scales of a quantized map's inputs, against the data and the model as it was.

Static ranges come from padded batches; the plain side reads one text after the other without
padding, and takes the extremes of each map's inputs over their scale. A run that is quantized is
checked as it is; another one in a copy with SmoothQuant's scales. Of that one, before anything is
rounded, the logits must also be those of the model without scales: merged into the norms where that
is possible, else divided out before each map.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tinylm.compression import norms
from tinylm.compression.activations import quantized_maps, round_statically
from tinylm.compression.calibration import Columns, linear_maps, observe
from tinylm.compression.quantizing import quantize
from tinylm.compression.ranges import min_max
from tinylm.compression.smoothquant import SmoothQuant, smoothing_scale
from tinylm.config.quantization import SmoothQuantConfig
from tinylm.data.windows import pad_rows
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import in_float64, largest, ragged_stories, relative, worst
from tinylm.fast import remove
from tinylm.model.base import GenerativeModel

_TEXTS, _LONGEST = 4, 24


def run(subject: Subject) -> Finding:
    """Compare ranges with the inputs' extremes, and scaled maps with plain ones."""
    model = in_float64(subject.lm.model).cpu()
    remove(model)
    texts = ragged_stories(subject.validation, _TEXTS, min(_LONGEST, model.config.context_length))
    ids, real = pad_rows(texts)
    differences, cases = [], 0
    if not quantized_maps(model):
        scaled, plain = _logits(_scaled(model, texts[-1]), ids), _logits(model, ids)
        differences.append(relative(scaled, plain))
        cases += plain.numel()
        settings = SmoothQuantConfig(activations="float")
        quantize(model, SmoothQuant, settings, torch.tensor(texts[-1:]))
    ranges = round_statically(model, ids, min_max, real, batch_size=2)
    for path, expected in _extremes(model, texts).items():
        differences.append(largest(torch.tensor(ranges[path], dtype=torch.float64), expected))
        cases += 2
    return Finding(
        compared="ranges of inputs from padded batches, against their extremes text by text; "
        "logits of maps with scaled inputs, against those without (float64)",
        cases=cases,
        unit="numbers",
        difference=worst(differences),
        bound=1e-6,
    )


@torch.no_grad()
def _logits(model: GenerativeModel, ids: Tensor) -> Tensor:
    logits: Tensor = model(ids)
    return logits


@torch.no_grad()
def _scaled(model: GenerativeModel, text: list[int]) -> GenerativeModel:
    """Return a copy whose maps divide their inputs by a scale, by which weights are multiplied."""
    model = copy.deepcopy(model)
    before = norms.norms_before(model)
    tied = model.embedding.weight
    maps = {path: each for path, each in linear_maps(model).items() if each.weight is not tied}
    seen = {path: Columns() for path in maps}
    observe(model, torch.tensor([text]), {path: [each] for path, each in seen.items()})
    for path, linear in maps.items():
        scale = smoothing_scale(seen[path].largest_absolute, linear.weight)
        linear.weight.mul_(scale)
        if path in before:
            norms.divide_norm(before[path], scale)
        else:
            linear.register_forward_pre_hook(_dividing(scale))
    return model


def _dividing(scale: Tensor) -> Callable[[nn.Module, Any], Any]:
    return lambda module, args: (args[0] / scale, *args[1:])


@torch.no_grad()
def _extremes(model: GenerativeModel, texts: list[list[int]]) -> dict[str, Tensor]:
    """Return path -> least and largest number that a map's codes multiply, 0 included, (2,)."""
    maps = quantized_maps(model)
    ends = {path: torch.zeros(2, dtype=torch.float64) for path in maps}
    handles = []
    for path, module in maps.items():
        module.rounding, module.input_range = None, None

        def look(module: Any, args: Any, path: str = path) -> None:
            x = args[0] if module.input_scale is None else args[0] / module.input_scale
            low, high = ends[path]
            ends[path] = torch.stack((low.minimum(x.min()), high.maximum(x.max())))

        handles.append(module.register_forward_pre_hook(look))
    for text in texts:
        ids = torch.tensor([text])
        model(ids, **model.in_one_read(ids))
    for handle in handles:
        handle.remove()
    return ends
