"""What methods have in common that round a map by what it multiplies.

The inputs of every map are read from calibration texts, either once, through the model as it was,
or for each map anew, through the quantized maps before it, so that a map can make up for what those
have lost. Then each weight is rounded, with a scale of its inputs or without. Where a norm makes
these inputs for this map alone, the norm is divided by the scale; else the map divides them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from tinylm.compression.calibration import Columns, Gram, observe
from tinylm.compression.clipping import clipped_constants
from tinylm.compression.norms import divide_norm, norms_before
from tinylm.compression.pruner import calibration_ids
from tinylm.compression.quantizing import integer_forms, put, targets
from tinylm.config.quantization import RoundingConfig
from tinylm.model.base import GenerativeModel
from tinylm.model.masks import masks_of
from tinylm.numbers.integers import IntegerFormat
from tinylm.numbers.quantized import QuantizedWeight


@dataclass(frozen=True)
class LinearInput:
    """A linear map that is to be rounded, and what it multiplies."""

    weight: Tensor
    """(out, in)."""
    form: IntegerFormat
    """The format that it is rounded to."""
    kept: Tensor | None
    """(out, in), bool, False where pruning holds a weight at 0; None: nowhere."""
    tied: bool
    """Whether the weight is the embedding too, so that its columns cannot be scaled."""
    gram: Gram
    """Of the inputs."""
    columns: Columns
    """Of the inputs."""


class Rounded(NamedTuple):
    """What became of a map."""

    weight: QuantizedWeight
    """Of the weight, its columns multiplied by the scale."""
    scale: Tensor | None = None
    """What the inputs are divided by, (in,); None: nothing."""


def rounded_within(
    weight: Tensor, form: IntegerFormat, constants: tuple[Tensor, Tensor | None]
) -> QuantizedWeight:
    """Return a weight, (out, in), rounded to the nearest by scales and zeros that are given."""
    stored = form.store(form.encode(weight, *constants), *constants)
    return QuantizedWeight(weight, form, stored)


def quantize_maps(
    model: GenerativeModel,
    settings: RoundingConfig,
    ids: Tensor | None,
    rounded: Callable[[LinearInput], Rounded],
    after_quantized: bool = False,
) -> Mapping[str, Any]:
    """Round the targets of a model.

    An embedding that is no linear map too multiplies nothing: it is rounded to the nearest, in
    ranges of the least squared error.

    Args:
        model: changed in place.
        settings: of the method.
        ids: texts to calibrate by, (texts, seq).
        rounded: rounds a map.
        after_quantized: read the texts anew for each map, through the quantized maps before it.

    Returns:
        ``output_errors``: path of a map -> mean squared error of its outputs over their mean
        square, on those texts, by rounding to the nearest and by this method.

    Raises:
        CompressionError: for targets that match nothing, groups that do not divide a row, and texts
            that do not tell what the method needs.
    """
    texts = calibration_ids(ids)
    modules, masks, norms = targets(model, settings.targets), masks_of(model), norms_before(model)
    weights = {path: module.weight.detach() for path, module in modules.items()}
    forms = integer_forms(model, modules, settings)
    maps = [path for path, module in modules.items() if isinstance(module, nn.Linear)]
    same = {
        path: [p for p in modules if modules[p].weight is modules[path].weight] for path in maps
    }
    alone = {
        path: rounded_within(weights[path], form, clipped_constants(weights[path], form))
        for path, form in forms.items()
        if not any(path in same[map_path] for map_path in maps)
    }
    errors: dict[str, list[float]] = {}

    if after_quantized:
        put(model, alone)
    for stage in [[path] for path in maps] if after_quantized else [maps]:
        seen = {path: (Gram(), Columns()) for path in stage}
        observe(model, texts, seen)
        results: dict[str, Rounded] = {}
        for path in stage:
            weight, form, (gram, columns) = weights[path], forms[path], seen[path]
            tied = len(same[path]) > 1
            results[path] = rounded(LinearInput(weight, form, masks.get(path), tied, gram, columns))
            new, scale = results[path].weight(), results[path].scale
            errors[path] = [
                gram.relative_error(weight, each)
                for each in (form.rounded(weight), new if scale is None else new / scale)
            ]
        put(model, {place: results[path].weight for path in stage for place in same[path]})
        for path, (_, scale) in results.items():
            if scale is not None and path in norms:
                divide_norm(norms[path], scale)
            elif scale is not None:
                model.get_submodule(path).input_scale = scale
    if not after_quantized:
        put(model, alone)
    return {"output_errors": errors}
