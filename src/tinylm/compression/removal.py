"""A model without some of its heads, feed-forward neurons or layers: really smaller.

The matrices lose the rows and columns of what goes, and the configuration says the new sizes, so
that the result is a plain model as if it had been built so. As many heads and neurons stay in each
layer, since a configuration has one number for all of them. What the smaller model computes is what
the larger one does with the same parts silenced by a hook: a head's mixed values 0, a neuron's
activation 0, a layer's output its input; only the order of sums differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.errors import CompressionError
from tinylm.model.base import GenerativeModel, build
from tinylm.model.changes import NAME
from tinylm.model.decoder import DecoderLM
from tinylm.model.masks import CHANGE, hold, masks_of
from tinylm.numbers.linear import LinearLike
from tinylm.registry import POSITIONS

Parts = Sequence[Sequence[int]]
"""Indices of the parts of each layer, ascending, as many in each."""


def keep_heads(model: GenerativeModel, kept: Parts) -> GenerativeModel:
    """Return a model of these heads only.

    Args:
        model: left alone.
        kept: heads of each layer.

    Raises:
        CompressionError: if a layer keeps none, or another number than the others, or the positions
            act by a head's number.
    """
    config = model.config
    _refuse(model, kept, config.num_heads, "heads")
    refuse_heads(config)
    width = config.resolved_head_dim

    def rows(layer: int, names: int) -> Tensor:
        first = torch.tensor(kept[layer]) * width  # of each head's rows
        columns = (first[:, None] + torch.arange(width)).flatten()
        starts = torch.arange(names)[:, None] * config.num_heads * width
        return (starts + columns).flatten()

    def cut(layer: int, name: str, tensor: Tensor) -> Tensor:
        if name.startswith("attention.query_key_value."):
            return tensor[rows(layer, 3)]
        if name == "attention.output.weight":
            return tensor[:, rows(layer, 1)]
        return tensor

    sizes = {"num_heads": len(kept[0]), "head_dim": width}
    return _rebuilt(model, sizes, range(config.num_layers), cut)


def keep_neurons(model: GenerativeModel, kept: Parts) -> GenerativeModel:
    """Return a model of these feed-forward neurons only.

    Args:
        model: left alone.
        kept: neurons of each layer.

    Raises:
        CompressionError: if a layer keeps none, or another number than the others.
    """
    _refuse(model, kept, model.config.resolved_ffn_size, "neurons")

    def cut(layer: int, name: str, tensor: Tensor) -> Tensor:
        if name.startswith("feed_forward.expand."):
            return tensor[torch.tensor(kept[layer])]
        if name == "feed_forward.contract.weight":
            return tensor[:, torch.tensor(kept[layer])]
        return tensor

    sizes = {"ffn_size": len(kept[0])}
    return _rebuilt(model, sizes, range(model.config.num_layers), cut)


def keep_layers(model: GenerativeModel, kept: Sequence[int]) -> GenerativeModel:
    """Return a model of these layers only.

    Args:
        model: left alone.
        kept: layers, ascending.

    Raises:
        CompressionError: if none is kept.
    """
    _refuse(model, [kept], model.config.num_layers, "layers")
    return _rebuilt(model, {"num_layers": len(kept)}, kept, lambda layer, name, tensor: tensor)


def refuse_heads(config: ModelConfig) -> None:
    """Refuse to remove heads of a model whose positions act by a head's number.

    Raises:
        CompressionError: saying what can go.
    """
    if POSITIONS.load(config.positions).biases():
        raise CompressionError(
            f"positions = {config.positions} give each head its bias by its number: no head can "
            "go; neurons and layers can"
        )


def refuse_changed(model: GenerativeModel) -> None:
    """Refuse a model that cannot be built smaller: quantized, adapted, of another kind.

    Raises:
        CompressionError: saying what to do.
    """
    if any(isinstance(module, LinearLike) for module in model.modules()):
        raise CompressionError(
            "the model is quantized already: prune the run that it was made of, then quantize"
        )
    others = [change[NAME] for change in model.changes if change[NAME] != CHANGE]
    if others or not isinstance(model, DecoderLM):
        what = (
            f"was changed since it was built ({', '.join(others)})" if others else "is no decoder"
        )
        raise CompressionError(f"the model {what}: parts can be removed of a plain decoder")


def _refuse(model: GenerativeModel, kept: Parts, total: int, what: str) -> None:
    refuse_changed(model)
    counts = {len(each) for each in kept}
    if len(counts) != 1 or not 0 < max(counts) <= total:
        raise CompressionError(f"{what}: keep as many in each layer, 1 to {total}")
    for each in kept:
        if sorted(set(each)) != list(each) or not (each[0] >= 0 and each[-1] < total):
            raise CompressionError(
                f"{what}: give numbers from 0 to {total - 1}, each once, in order"
            )


def _rebuilt(
    model: GenerativeModel, sizes: dict[str, Any], layers: Sequence[int], cut: Any
) -> GenerativeModel:
    """Return a new model of other sizes with the tensors of some layers of the old one, cut."""
    weight = model.embedding.weight
    with torch.random.fork_rng(devices=[]):  # what is drawn is replaced
        smaller = build(replace(model.config, **sizes))
    smaller.to(weight.device, weight.dtype)

    def taken(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of the smaller model, by the names that they have there."""
        result = {}
        for name, tensor in tensors.items():
            first, _, rest = name.partition(".")
            if first != "layers":
                result[name] = tensor
                continue
            old, _, rest = rest.partition(".")
            if int(old) in layers:
                new = list(layers).index(int(old))
                result[f"layers.{new}.{rest}"] = cut(int(old), rest, tensor)
        return result

    parameters = {name: each.detach() for name, each in model.named_parameters()}
    own = dict(smaller.named_parameters())
    with torch.no_grad():
        for name, tensor in taken(parameters).items():
            own[name].copy_(tensor)
            own[name].requires_grad_(model.get_parameter(_before(name, layers)).requires_grad)
    masks = {f"{path}.weight": mask for path, mask in masks_of(model).items()}
    hold(smaller, {k.removesuffix(".weight"): mask for k, mask in taken(masks).items()})
    return smaller.train(model.training)


def _before(name: str, layers: Sequence[int]) -> str:
    """Return the name that a tensor had in the larger model."""
    first, _, rest = name.partition(".")
    if first != "layers":
        return name
    new, _, rest = rest.partition(".")
    return f"layers.{layers[int(new)]}.{rest}"
