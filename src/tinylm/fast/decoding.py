"""Decoding, quick: one new token of a few texts goes through all layers in one call.

What a model's layers are is read once, when a decoding state is made, and again when their weights
have changed. Adapters that have no part in a step (those that are switched off or merged, and
prefixes, which stand in the state) are skipped; with any other module in a layer, with hooks
or gradients, and for more texts, the layers run in turn, each of their parts in its quick form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from tinylm.fast import loops
from tinylm.fast.attention import FastAttention
from tinylm.fast.cache import StepCache
from tinylm.fast.decoder import FastDecoderLM
from tinylm.fast.encodings import tables_of
from tinylm.fast.kept import kept, numbers_of, state_of
from tinylm.fast.layers import FastDecoderLayer, FastFeedForward, FastLayerNorm
from tinylm.fast.linear import watched
from tinylm.fast.packed import LINEARS
from tinylm.model.activations.gelu import gelu, gelu_tanh
from tinylm.model.activations.relu import relu
from tinylm.model.activations.silu import silu
from tinylm.model.cache import KVCache
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.layers import LayerNorm
from tinylm.model.reading import Reading
from tinylm.numbers.integers import INT8

if TYPE_CHECKING:
    from tinylm.fast.loops.decoding import Layers, LayerWeights
    from tinylm.fast.loops.single_token import Matrix

Numbers = Literal["float32", "bfloat16", "int8"]
"""Format of the linear maps in decoding."""
FEW = 8
"""Rows up to which reading a matrix takes longer than multiplying by it."""
_ACTIVATIONS: dict[Callable[[Tensor], Tensor], str] = {
    relu: "relu",
    gelu: "gelu",
    gelu_tanh: "gelu_tanh",
    silu: "silu",
}
"""Those that the loops of a step have; with another one the layers run in turn."""
_FORMATS: dict[Numbers, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
}


@runtime_checkable
class _Adapted(Protocol):
    """A module with an adapter that may have no part in a step of decoding."""

    def in_steps(self) -> nn.Module:
        """Return the plain module that does the same in a step, or this one itself."""
        ...


class SteppingDecoderLM(FastDecoderLM):
    """A decoder whose steps are one call for a few texts."""

    numbers: ClassVar[Numbers] = "float32"

    def run_layers(self, x: Tensor, reading: Reading) -> Tensor:
        """Run the residual stream through all layers; see ``DecoderLM.run_layers``."""
        cache = reading.cache
        if (
            isinstance(cache, StepCache)
            and cache.layers is not None
            and len(x) <= FEW
            and self.layer_runner is None
            and not reading.hooks.active
            and cache.can_attend(x)
        ):
            encoding = cache.encoding_at(reading.positions)
            return cache.layers.step(x[:, 0], cache.layout(), encoding)[:, None]
        return super().run_layers(x, reading)

    def unembed(self, x: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Map the residual stream, (..., hidden), to logits, (..., vocab)."""
        output = self.unembedding
        if (
            x.shape[:-1].numel() > FEW
            or hooks.active
            or type(output) not in LINEARS
            or watched(output)
            or torch.is_grad_enabled()
            or not loops.suit(x, output.weight)
        ):
            return super().unembed(x, hooks)
        matrix = kept(self, "output", numbers_of(output), lambda: matrix_of(output, self.numbers))
        logits = loops.single_token.linear(x.reshape(-1, x.shape[-1]), matrix)
        return logits.view(*x.shape[:-1], -1)

    def new_cache(self, **sizes: int) -> KVCache:
        """Return an empty cache that the loops read; see ``DecoderLM.new_cache``."""
        weight = self.embedding.weight
        if not loops.suit(weight):
            return super().new_cache(**sizes)
        # In bfloat16 the projection gives nothing finer.
        dtype = weight.dtype if self.numbers == "float32" else torch.bfloat16
        prefix = max(0, sizes.get("capacity", 0) - self.config.context_length)
        tables = kept(
            self,
            f"tables {prefix}",
            state_of([self.positions]),
            lambda: tables_of(self.positions, self.config, prefix),
        )
        layers = kept(self, "layers", state_of(self.layers.modules()), lambda: layers_of(self))
        return StepCache(self.config, dtype=dtype, tables=tables, layers=layers, **sizes)


class Float32Steps(SteppingDecoderLM):
    """With linear maps as they are."""


class BFloat16Steps(SteppingDecoderLM):
    """With linear maps rounded to bfloat16."""

    numbers = "bfloat16"


class Int8Steps(SteppingDecoderLM):
    """With linear maps rounded to 8-bit integers."""

    numbers = "int8"


def layers_of(model: SteppingDecoderLM) -> Layers | None:
    """Return the layers of a decoder as the loops read them, or None if they cannot.

    They must be those of this package alone, in float32 on a CPU, in eval mode and without hooks.
    """
    parts = list(model.layers.modules())
    suited = all(
        p.device.type == "cpu" and p.dtype == torch.float32 for p in model.layers.parameters()
    )
    if not suited or watched(*parts) or any(part.training for part in parts):
        return None
    weights = [_layer_weights(layer, model.numbers) for layer in model.layers]
    known = [layer for layer in weights if layer is not None]
    if len(known) < len(weights):
        return None
    activation = _activation_of(model.layers[0])
    if activation is None:
        return None
    return loops.decoding.Layers(
        known,
        num_heads=model.config.num_heads,
        norm_eps=model.config.norm_eps,
        norm_first=model.config.norm_placement == "pre",
        activation=activation,
    )


def _plain(module: nn.Module) -> nn.Module:
    """Return what does the same in a step as a module, without adapters that have no part in it."""
    while isinstance(module, _Adapted):
        inside = module.in_steps()
        if inside is module:
            break
        module = inside
    return module


def _activation_of(layer: nn.Module) -> str | None:
    assert isinstance(layer, FastDecoderLayer)
    feed_forward = _plain(layer.feed_forward)
    assert isinstance(feed_forward, FastFeedForward)
    return _ACTIVATIONS.get(feed_forward.activation)


def _layer_weights(layer: nn.Module, numbers: Numbers) -> LayerWeights | None:
    if type(layer) is not FastDecoderLayer:
        return None
    attention, feed_forward = _plain(layer.attention), _plain(layer.feed_forward)
    if type(attention) is not FastAttention or type(feed_forward) is not FastFeedForward:
        return None
    norms = [_plain(part) for part in (layer.attention_norm, layer.feed_forward_norm)]
    linears = [
        _plain(part)
        for part in (
            *(attention.query_key_value, attention.output),
            *(feed_forward.expand, feed_forward.contract),
        )
    ]
    matrices = [
        matrix_of(part, numbers)
        for part in linears
        if isinstance(part, nn.Linear) and type(part) in LINEARS
    ]
    scales = [_norm_weights(part) for part in norms if type(part) is FastLayerNorm]
    if len(matrices) < len(linears) or len(scales) < len(norms):
        return None
    projection, output, expand, contract = matrices
    return loops.decoding.LayerWeights(projection, output, expand, contract, *scales)


def _norm_weights(norm: LayerNorm) -> tuple[Tensor, Tensor]:
    weight = norm.weight.detach()
    return weight, torch.zeros_like(weight) if norm.bias is None else norm.bias.detach()


def matrix_of(linear: nn.Linear, numbers: Numbers) -> Matrix:
    """Return a linear map as the loops read it.

    Args:
        linear: in float32.
        numbers: float32, which is not copied; bfloat16; or int8 (``numbers.integers.INT8``).
    """
    weight = linear.weight.detach()
    scale = torch.ones(len(weight))
    bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach()
    if numbers == "int8":
        by_row, _ = INT8.fit(weight)
        weight, scale = INT8.encode(weight, by_row), by_row[:, 0]
    return loops.single_token.Matrix(
        weight.to(_FORMATS[numbers]).contiguous(), scale, bias.contiguous()
    )
