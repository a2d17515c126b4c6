"""Norms whose output one linear map alone multiplies: dividing them divides its inputs.

So it is in a pre-norm layer. In a post-norm one the norm's output is the residual stream too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tinylm.model.decoder import DecoderLM
from tinylm.model.layers import LayerNorm


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
