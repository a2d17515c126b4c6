"""The weights of one head, as the circuits of Elhage et al. 2021 take them.

A head reads the residual stream by ``W_Q``, ``W_K`` and ``W_V``, (hidden, head_dim) each, and
writes to it by ``W_O``, (head_dim, hidden): ``q = x W_Q + b_Q``. The model keeps them stacked and
transposed, maybe inside an adapter; what is returned here is the map that the model applies.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tinylm.errors import ConfigError
from tinylm.model.attention import Attention
from tinylm.model.base import GenerativeModel


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """What one head reads and writes by; a bias that the model lacks is 0."""

    query: Tensor
    """W_Q, (hidden, head_dim)."""
    key: Tensor
    """W_K, (hidden, head_dim)."""
    value: Tensor
    """W_V, (hidden, head_dim)."""
    output: Tensor
    """W_O, (head_dim, hidden)."""
    query_bias: Tensor
    """(head_dim,)."""
    key_bias: Tensor
    """(head_dim,)."""
    value_bias: Tensor
    """(head_dim,)."""


@torch.no_grad()
def affine(module: nn.Module, inputs: int) -> tuple[Tensor, Tensor]:
    """Return the matrix, (in, out), and the bias, (out,), of a linear map or what stands for it.

    Adapters that add a linear map are counted in, since it is the module itself that is applied.

    Args:
        module: an affine map of (..., in).
        inputs: size of its input.
    """
    if type(module) is nn.Linear:
        weight = module.weight.detach()
        bias = weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach()
        return weight.T, bias
    first = next(module.parameters())
    shift = module(first.new_zeros(1, inputs))[0]
    return module(torch.eye(inputs, dtype=first.dtype, device=first.device)) - shift, shift


def maps_of(model: GenerativeModel, layer: int) -> tuple[nn.Module, nn.Module]:
    """Return the maps of a layer's attention: to queries, keys and values; and from all heads.

    Raises:
        ConfigError: if there is no such layer, or its attention is not one of ``model.attention``.
    """
    layers = list(getattr(model, "layers", ()))
    if not 0 <= layer < len(layers):
        raise ConfigError(f"there is no layer {layer}: the model has {len(layers)}, from 0")
    attention = layers[layer].attention
    if not isinstance(attention, Attention):
        raise ConfigError(
            f"the attention of layer {layer} is inside a {type(attention).__name__}, so that its "
            "heads have no weights of their own: merge the adapter, where that can be, or detach it"
        )
    return attention.query_key_value, attention.output


def head_weights(model: GenerativeModel, layer: int) -> list[HeadWeights]:
    """Return the weights of every head of a layer, in order.

    Args:
        model: in eval mode.
        layer: from 0.

    Raises:
        ConfigError: as ``maps_of``.
    """
    config, (projection, output_map) = model.config, maps_of(model, layer)
    heads, size = config.num_heads, config.resolved_head_dim
    joint, joint_bias = affine(projection, config.hidden_size)
    output, _ = affine(output_map, heads * size)
    # (3, heads, hidden, head_dim) and (3, heads, head_dim)
    parts = joint.reshape(-1, 3, heads, size).permute(1, 2, 0, 3)
    biases = joint_bias.view(3, heads, size)
    outputs = output.view(heads, size, config.hidden_size)
    return [
        HeadWeights(
            *(parts[0, head], parts[1, head], parts[2, head], outputs[head]),
            *(biases[0, head], biases[1, head], biases[2, head]),
        )
        for head in range(heads)
    ]
