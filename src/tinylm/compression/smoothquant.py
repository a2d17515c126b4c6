"""SmoothQuant: what is hard to round moves from the inputs to the weight (Xiao et al. 2023).

A few numbers of a map's inputs are far larger than the others, in every token, and 8 bits spread
over them are coarse for all. ``x W^T = (x / s) (W diag(s))^T``: divided by
``s_j = max|x_j|^a / max|W_j|^(1-a)`` the inputs are easy to round, and the weight, with a scale for
each row, can bear it. Before anything is rounded the outputs have not changed.

The division costs nothing where a norm makes the inputs, for this map alone: its weight and bias
are divided. In a pre-norm layer that is so. In a post-norm one, the norm's output is the residual
stream too: there the map divides its inputs itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tinylm.model.decoder import DecoderLM
from tinylm.model.layers import LayerNorm

_LEAST = 1e-5


def smoothing_scale(largest: Tensor, weight: Tensor, strength: float = 0.5) -> Tensor:
    """Return what the inputs are divided by and the weight's columns multiplied by.

    Args:
        largest: absolute value of each number of the inputs, (in,), as calibration saw it.
        weight: (out, in).
        strength: the exponent *a*: 0 leaves the difficulty with the inputs, 1 gives all of it to
            the weight.

    Returns:
        (in,), float32; 1 for an input or a column that is always 0.
    """
    columns = weight.detach().abs().amax(0).double()
    inputs = largest.double()
    scale = inputs.clamp(min=_LEAST) ** strength / columns.clamp(min=_LEAST) ** (1 - strength)
    scale = torch.where((inputs == 0) | (columns == 0), 1.0, scale)
    return scale.clamp(min=_LEAST).float()


def norms_before(model: nn.Module) -> dict[str, LayerNorm]:
    """Return path of a linear map -> the norm that makes its inputs and nothing else.

    Dividing this norm's weight and bias divides the inputs of that map alone. There are none in
    post-norm layers. The last norm of a pre-norm model is one, unless the map after it is the
    embedding as well.
    """
    norms: dict[str, nn.Module] = {}
    if isinstance(model, DecoderLM):
        layers: Iterable[Any] = model.layers
        for index, layer in enumerate(layers):
            if layer.norm_first:
                path = f"layers.{index}"
                norms[f"{path}.attention.query_key_value"] = layer.attention_norm
                norms[f"{path}.feed_forward.expand"] = layer.feed_forward_norm
        if model.unembedding.weight is not model.embedding.weight:
            norms["unembedding"] = model.final_norm
    return {path: norm for path, norm in norms.items() if isinstance(norm, LayerNorm)}


@torch.no_grad()
def divide_norm(norm: LayerNorm, scale: Tensor) -> None:
    """Divide what a norm makes by a scale, (size,), through its weight and bias."""
    norm.weight.copy_(norm.weight / scale)
    if norm.bias is not None:
        norm.bias.copy_(norm.bias / scale)
