"""Quantized maps put in the places of a model's plain ones, and put there again.

The modules themselves say how they are quantized, so that a model that is saved lists each of them
with its format; read again, the same modules are made and filled with the saved codes. A table of
embeddings that is the output layer's weight too stays one weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, with_config
from torch import Tensor, nn
from typing_extensions import TypedDict

from tinylm.compression.activations import round_dynamically, round_statically
from tinylm.compression.pruner import calibration_ids
from tinylm.compression.quantizer import Quantizer
from tinylm.compression.ranges import range_method
from tinylm.config.quantization import Inputs, RoundingConfig
from tinylm.errors import CompressionError, ConfigError, shown
from tinylm.model.base import GenerativeModel, Model
from tinylm.model.changes import note
from tinylm.model.paths import chosen_by
from tinylm.numbers.formats import WeightFormat
from tinylm.numbers.integers import Bits, IntegerFormat
from tinylm.numbers.quantized import (
    QuantizedEmbedding,
    QuantizedLinear,
    QuantizedWeight,
    Rounding,
    format_of,
    format_settings,
)
from tinylm.reading import checked, refusal

CHANGE = "quantize"
_USUAL_GROUP = 32


def quantize(
    model: GenerativeModel, method: type[Quantizer], settings: Inputs, ids: Tensor | None = None
) -> Mapping[str, Any]:
    """Quantize a model by a method, and write down what it has become.

    Args:
        model: changed in place.
        method: of the registry QUANTIZERS.
        settings: of the method's type.
        ids: texts to calibrate by, (texts, seq), without padding, if ``settings.reads_texts``.

    Returns:
        What a reader should know of what came of it, as JSON values.

    Raises:
        CompressionError: if the model is quantized already, or has numbers that are not finite,
            and what the method refuses.
    """
    refuse_quantized(model)
    if settings.reads_texts:
        calibration_ids(ids)
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise CompressionError(f"{name} holds numbers that are not finite: train it again")
    if settings.reads_texts or settings.activations != "float":
        _refuse_without_inputs(model, settings)
    details = dict(method.quantize(model, settings, ids))
    if settings.activations == "dynamic":
        round_dynamically(model)
    elif settings.activations == "static":
        texts = calibration_ids(ids)
        choose = range_method(settings.activation_range, settings.percentile)
        ranges = round_statically(model, texts, choose)
        details["input_ranges"] = {path: list(each) for path, each in ranges.items()}
    note(model, CHANGE, modules=written(model))
    return details


def _refuse_without_inputs(model: GenerativeModel, settings: Any) -> None:
    """Refuse targets that multiply nothing, where it is their inputs that a method looks at."""
    chosen = targets(model, settings.targets)
    if not any(isinstance(module, nn.Linear) for module in chosen.values()):
        raise CompressionError(
            f"targets = {', '.join(settings.targets)}: none of them is a linear map, and the "
            "inputs of linear maps are what this method reads or rounds: name one, or give "
            "--method rtn without activations"
        )


def refuse_quantized(model: nn.Module) -> None:
    """Refuse a model that is quantized already.

    Raises:
        CompressionError: naming a module and its format.
    """
    for path, module in model.named_modules():
        if isinstance(module, QuantizedWeight):
            raise CompressionError(
                f"{path.removesuffix('.quantized')} is quantized already, as {module.form.label}: "
                "take the run that it was made of"
            )


def targets(model: GenerativeModel, patterns: Sequence[str]) -> dict[str, Any]:
    """Return path -> linear map, or the embedding, of those that a pattern matches, in order.

    Args:
        model: without adapters, not quantized.
        patterns: see ``model.paths.matches``.

    Raises:
        CompressionError: if a pattern matches none, or a weight is chosen in one of two places.
    """
    known = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) or module is model.embedding
    }
    chosen = chosen_by(patterns, known, "nothing that is quantized", CompressionError)
    for path, module in chosen.items():
        for other, left in known.items():
            if left.weight is module.weight and other not in chosen:
                raise CompressionError(
                    f"{path}.weight and {other}.weight are one tensor: name both as targets, or "
                    "neither of them"
                )
    return chosen


def integer_forms(
    model: GenerativeModel, modules: Mapping[str, Any], settings: RoundingConfig
) -> dict[str, IntegerFormat]:
    """Return the format that settings ask for in each of some modules.

    Args:
        model: that they are of.
        modules: path -> linear map or embedding (``targets``).
        settings: of the method.

    Raises:
        CompressionError: if groups do not divide the rows of one of them, or the embedding, which
            is none of them, is given bits of its own.
        ConfigError: if there is a group size without groups.
    """
    embedding = model.embedding.weight
    if settings.embedding_bits and all(each.weight is not embedding for each in modules.values()):
        raise CompressionError(
            f"embedding_bits = {settings.embedding_bits}: the embedding is none of the targets: "
            "leave it out"
        )
    return {
        path: _integer_form(
            settings,
            path,
            module.weight.shape[1],
            (settings.embedding_bits if module.weight is embedding else None) or settings.bits,
        )
        for path, module in modules.items()
    }


def _integer_form(settings: RoundingConfig, path: str, columns: int, bits: Bits) -> IntegerFormat:
    size = settings.group_size
    if settings.granularity == "group" and size is None:
        size = _near_divisor(columns, _USUAL_GROUP)
    form = IntegerFormat(
        bits, settings.symmetric, settings.granularity, size, settings.scale_format
    )
    try:
        form.groups(columns)
    except ConfigError as error:
        raise CompressionError(f"{path}: {error}") from error
    return form


def put(model: nn.Module, weights: Mapping[str, WeightFormat | QuantizedWeight]) -> None:
    """Put quantized modules in the places of linear maps and of the embedding.

    Args:
        model: changed in place.
        weights: path of a plain module -> the format of its weight, or that weight, quantized.
            Of a weight that stands in several places the first one's counts for all.

    Raises:
        ConfigError: if a format does not suit a weight; nothing is changed then.
    """
    modules: dict[str, Any] = {path: model.get_submodule(path) for path in weights}
    made: dict[int, QuantizedWeight] = {}
    new: dict[str, nn.Module] = {}
    for path, kept in weights.items():
        module = modules[path]
        key = id(module.weight)
        if key not in made:
            if not isinstance(kept, QuantizedWeight):
                kept = QuantizedWeight(module.weight, kept)
            made[key] = kept
        if isinstance(module, nn.Embedding):
            new[path] = QuantizedEmbedding(made[key])
        else:
            new[path] = QuantizedLinear(module, made[key])
    for path, module in new.items():
        model.set_submodule(path, module)


@with_config(extra="forbid")
class _Module(TypedDict):
    format: dict[str, Any]
    input_scale: bool
    rounding: Literal["dynamic", "static"] | None


@with_config(extra="forbid")
class _Quantized(TypedDict):
    modules: Annotated[dict[str, _Module], Field(min_length=1)]


def written(model: nn.Module) -> dict[str, Any]:
    """Return path -> how a module is quantized, as JSON values."""
    return {
        path: _Module(
            format=format_settings(module.quantized.form),
            input_scale=getattr(module, "input_scale", None) is not None,
            rounding=getattr(module, "rounding", None),
        )
        for path, module in model.named_modules()
        if isinstance(module, (QuantizedLinear, QuantizedEmbedding))
    }


def made_again(model: Model, settings: Mapping[str, Any]) -> Model:
    """Put quantized modules in their places; what they hold, the saved tensors say."""
    about = checked(_Quantized, dict(settings), refusal("settings", CompressionError))
    refuse_quantized(model)
    if not isinstance(model, GenerativeModel):
        raise CompressionError(f"a {type(model).__name__} comes last: nothing is done to it then")
    known = targets(model, ["*"])
    for path in about["modules"]:
        if path not in known:
            raise CompressionError(f"{shown(path)} is no linear map and no embedding of the model")
    targets(model, [f".{path}" for path in about["modules"]])  # none of them alone, if it is tied
    try:
        put(model, {path: format_of(each["format"]) for path, each in about["modules"].items()})
    except ConfigError as error:
        raise CompressionError(str(error)) from error
    for path, each in about["modules"].items():
        _with_inputs(model.get_submodule(path), path, each["input_scale"], each["rounding"])
    note(model, CHANGE, modules=written(model))
    return model


def _with_inputs(
    module: nn.Module, path: str, input_scale: bool, rounding: Rounding | None
) -> None:
    """Give a map what it does to its inputs, with numbers that are read later."""
    if not isinstance(module, QuantizedLinear):
        if input_scale or rounding is not None:
            raise CompressionError(f"{shown(path)} has no inputs to scale or round")
        return
    module.rounding = rounding
    if input_scale:
        module.input_scale = torch.ones(module.in_features)
    if rounding == "static":
        module.input_range = torch.zeros(2)


def _near_divisor(columns: int, wanted: int) -> int:
    """Return the divisor whose ratio to the wanted number is nearest to 1; of two, the larger."""
    divisors = [size for size in range(columns, 0, -1) if not columns % size]
    return min(divisors, key=lambda size: abs(math.log(size / wanted)))
