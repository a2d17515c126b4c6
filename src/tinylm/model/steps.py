"""Steps of decoding by compiled loops: which models they suit, and what they read.

One new token of a few texts goes through all layers in one call (``fast.loops.decoding``), without
hooks, adapters or other modules between. Everything else runs layer by layer, as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tinylm.fast import loops
from tinylm.model.attention import Attention
from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLayer, DecoderLM, LayerRunner, in_turn
from tinylm.model.layers import Dropout, FeedForward, LayerNorm, add_norm, gelu, gelu_tanh, relu
from tinylm.model.positions import Positions
from tinylm.model.reading import Reading
from tinylm.numbers.int8 import to_int8

FEW = 8
"""Rows up to which reading a matrix takes longer than multiplying by it."""
_ACTIVATIONS: dict[Callable[[Tensor], Tensor], str] = {
    relu: "relu",
    gelu: "gelu",
    gelu_tanh: "gelu_tanh",
}


def can_step(model: DecoderLM) -> bool:
    """Whether the layers are those of this package alone, in float32 on a CPU, nobody watching."""
    plain = {
        *(nn.ModuleList, DecoderLayer, Attention, FeedForward, LayerNorm, nn.Linear, Dropout),
    }
    parts = list(model.layers.modules())
    positions = type(model.positions)
    return (
        loops.available()
        and all(type(part) in plain for part in parts)
        and not any(part._forward_hooks or part._forward_pre_hooks for part in parts)
        and all(
            p.device.type == "cpu" and p.dtype == torch.float32 for p in model.layers.parameters()
        )
        and positions.rotate is Positions.rotate
        and positions.bias is Positions.bias
        and all(part.activation in _ACTIVATIONS for part in parts if isinstance(part, FeedForward))
    )


def matrix_of(linear: nn.Linear, numbers: torch.dtype) -> Any:
    """Return a linear map as the kernels read it.

    Args:
        linear: in float32.
        numbers: float32, which is not copied; bfloat16; or int8, rounded row by row to multiples of
            a 127th of the row's largest number.
    """
    from tinylm.fast.loops.single_token import Matrix

    weight = linear.weight.detach()
    scale = torch.ones(len(weight))
    bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach()
    if numbers == torch.int8:
        weight, scale = to_int8(weight)
    return Matrix(weight.to(numbers).contiguous(), scale, bias.contiguous())


def step_runner(model: DecoderLM, numbers: torch.dtype) -> LayerRunner:
    """Return what runs the layers of a model that ``can_step``, few new tokens in one call.

    Args:
        model: in eval mode.
        numbers: format of the matrices, as of ``matrix_of``.
    """
    from tinylm.fast.loops.decoding import Layers, LayerWeights

    config = model.config

    def norm(module: LayerNorm) -> tuple[Tensor, Tensor]:
        weight = module.weight.detach()
        return weight, torch.zeros_like(weight) if module.bias is None else module.bias.detach()

    def weights(layer: Any) -> LayerWeights:
        attention, feed_forward = layer.attention, layer.feed_forward
        return LayerWeights(
            matrix_of(attention.query_key_value, numbers),
            matrix_of(attention.output, numbers),
            matrix_of(feed_forward.expand, numbers),
            matrix_of(feed_forward.contract, numbers),
            norm(layer.attention_norm),
            norm(layer.feed_forward_norm),
        )

    first: Any = model.layers[0]
    fused = Layers(
        [weights(layer) for layer in model.layers],
        num_heads=config.num_heads,
        norm_eps=config.norm_eps,
        norm_first=config.norm_placement == "pre",
        activation=_ACTIVATIONS[first.feed_forward.activation],
    )

    def run(layers: Iterable[nn.Module], x: Tensor, reading: Reading) -> Tensor:
        cache = reading.cache
        if not isinstance(cache, KVCache) or x.shape[1] != 1 or reading.hooks.active:
            return in_turn(layers, x, reading)
        if len(x) > FEW:
            with loops.using():
                return _run_many(layers, x[:, 0], cache)[:, None]
        return fused.step(x[:, 0], cache.layout(), cache.length, cache.padded)[:, None]

    return run


def _run_many(layers: Iterable[Any], x: Tensor, cache: KVCache) -> Tensor:
    """Run one new token of many texts, (texts, hidden), through the layers.

    The products are those of the layers' own maps; attention and norms are compiled loops.
    """
    from tinylm.fast.loops.single_token import attend

    layout = cache.layout()
    for i, layer in enumerate(layers):
        attention, inner = layer.attention, layer.feed_forward
        outer_norm, inner_norm = layer.attention_norm, layer.feed_forward_norm
        drop = layer.dropout  # of nothing, in evaluation
        given = outer_norm(x) if layer.norm_first else x
        mixed = attend(attention.query_key_value(given), i, layout, cache.length, cache.padded)
        branch = attention.output(mixed)
        x = x + branch if layer.norm_first else add_norm(x, branch, drop, outer_norm)
        given = inner_norm(x) if layer.norm_first else x
        branch = inner.contract(inner.activation(inner.expand(given)))
        x = x + branch if layer.norm_first else add_norm(x, branch, drop, inner_norm)
    return x
