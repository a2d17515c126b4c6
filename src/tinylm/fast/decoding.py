"""Decoding, quick: the new tokens of a few texts go through all layers in one call.

So do short prompts, whose tokens are few.

What a model's layers are is read once, when a decoding state is made, and again when their weights
have changed. Adapters that have no part in a step (those that are switched off or merged, and
prefixes, which stand in the state) are skipped; with any other module in a layer, with hooks
or gradients, and for more texts, the layers run in turn, each of their parts in its quick form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tinylm.fast import loops
from tinylm.fast.attention import FastAttention
from tinylm.fast.cache import StepCache
from tinylm.fast.codes import CODED, MANY, bias_of, matrix_of_codes, rows_by_number, whole_matrix_of
from tinylm.fast.decoder import FastDecoderLM
from tinylm.fast.encodings import EncodingTables, tables_of
from tinylm.fast.kept import kept, state_of
from tinylm.fast.layers import FastDecoderLayer, FastFeedForward, FastLayerNorm
from tinylm.fast.linear import watched
from tinylm.fast.packed import LINEARS
from tinylm.model.activations.gelu import gelu, gelu_tanh
from tinylm.model.activations.relu import relu
from tinylm.model.activations.silu import silu
from tinylm.model.base import GenerativeModel
from tinylm.model.cache import KVCache
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.layers import LayerNorm
from tinylm.model.positions import Positions
from tinylm.model.reading import Reading
from tinylm.numbers.integers import INT8
from tinylm.numbers.quantized import QuantizedEmbedding, QuantizedLinear

if TYPE_CHECKING:
    from tinylm.fast.loops.decoding import Layers, LayerWeights
    from tinylm.fast.loops.matrices import Linear, Matrix

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
_FORMATS: dict[Numbers, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@runtime_checkable
class _Adapted(Protocol):
    """A module with an adapter that may have no part in a step of decoding."""

    def in_steps(self) -> nn.Module:
        """Return the plain module that does the same in a step, or this one itself."""
        ...


class QuickOutput(GenerativeModel):
    """A model whose logits of a few tokens are one call."""

    numbers: ClassVar[Numbers] = "float32"

    def unembed(self, x: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Map the residual stream, (..., hidden), to logits, (..., vocab)."""
        few = x.shape[:-1].numel() <= FEW and not hooks.active and not torch.is_grad_enabled()
        linear = self._quick_unembedding() if few and loops.suit(x) else None
        if linear is None:
            return super().unembed(x, hooks)
        return linear(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)

    def _quick_unembedding(self) -> Linear | None:
        """Return the map to logits for a few rows, or None if loops cannot compute it."""

        def make() -> Linear | None:
            output: Any = _plain(self.unembedding)
            suited = all(p.is_cpu and p.dtype == torch.float32 for p in output.parameters())
            matrix = matrix_of(output, self.numbers) if suited and not watched(output) else None
            return None if matrix is None else loops.matrices.Linear(matrix, output.in_features)

        return kept(self, "output", state_of(self.unembedding.modules()), make)

    def _cache_format(self, weight: Tensor) -> torch.dtype:
        """Return the format of keys and values: in bfloat16 the projection gives nothing finer."""
        return weight.dtype if self.numbers == "float32" else torch.bfloat16

    def _tables(self, encoding: Positions, prefix: int) -> EncodingTables | None:
        """Return what the loops know of the positional encoding, with virtual tokens before 0."""
        return kept(
            self,
            f"tables {prefix}",
            state_of([encoding]),
            lambda: tables_of(encoding, self.config, prefix),
        )


class SteppingDecoderLM(QuickOutput, FastDecoderLM):
    """A decoder whose layers are one call for a few tokens."""

    def run_layers(self, x: Tensor, reading: Reading) -> Tensor:
        """Run the residual stream through all layers; see ``DecoderLM.run_layers``."""
        cache = reading.cache
        if (
            isinstance(cache, StepCache)
            and cache.layers is not None
            and x.shape[:-1].numel() <= cache.layers.most_rows
            and self.layer_runner is None
            and not reading.hooks.active
            and cache.can_be_read(x)
            and (reading.ahead == "none" or (reading.ahead == "all" and cache.can_look_ahead))
        ):
            places = reading.positions.expand(x.shape[:-1]).flatten().tolist()
            ahead = reading.ahead == "all"
            return cache.layers.step(x, cache.layout(), cache.encoding_at(places), ahead)
        return super().run_layers(x, reading)

    def next_logits(
        self, tokens: Sequence[int], places: Sequence[int], state: Any, hooks: Hooks = NO_HOOKS
    ) -> Tensor:
        """Read a new token of each text; see ``GenerativeModel.next_logits``."""
        if (
            not isinstance(state, StepCache)
            or state.layers is None
            or state.beginning is None
            or state.tables is None
            or len(tokens) > state.layers.most_rows
            or self.layer_runner is not None
            or hooks.active
            or torch.is_grad_enabled()
            or max(places) >= self.config.context_length
        ):
            return super().next_logits(tokens, places, state, hooks)
        state.beginning.write(tokens, places, state.layers.entrance(len(tokens)))
        state.extend_by_one(places)
        encoding = state.encoding_at(places)
        x = state.layers.run(len(tokens), state.layout(), encoding, last_norm=True)
        return self.unembed(x) if state.output is None else state.output(x)

    def new_cache(self, **sizes: int) -> KVCache:
        """Return an empty cache that the loops read; see ``DecoderLM.new_cache``."""
        weight = next(self.parameters())
        if not loops.suit(weight):
            return super().new_cache(**sizes)
        prefix = max(0, sizes.get("capacity", 0) - self.config.context_length)
        parts = state_of((*self.layers.modules(), self.final_norm))
        layers = kept(self, "layers", parts, lambda: layers_of(self))
        ends = (*self.embedding.modules(), *self.positions.modules(), self.dropout)
        beginning = kept(self, "beginning", state_of(ends), lambda: beginning_of(self))
        return StepCache(
            self.config,
            dtype=self._cache_format(weight),
            tables=self._tables(self.positions, prefix),
            layers=layers,
            beginning=beginning,
            output=self._quick_unembedding(),
            **sizes,
        )


class Float32Steps(SteppingDecoderLM):
    """With linear maps as they are."""


class BFloat16Steps(SteppingDecoderLM):
    """With linear maps rounded to bfloat16."""

    numbers = "bfloat16"


class Int8Steps(SteppingDecoderLM):
    """With linear maps rounded to 8-bit integers."""

    numbers = "int8"


class Beginning(NamedTuple):
    """What a token is before the first layer."""

    rows_of: Callable[[Sequence[int]], NDArray[np.float32]]
    """Returns the embeddings of tokens, (texts, hidden)."""
    scale: float
    """That they are multiplied by."""
    added: NDArray[np.float32] | None
    """(context, hidden): what the positional encoding adds; None: nothing."""

    def write(self, tokens: Sequence[int], places: Sequence[int], out: NDArray[np.float32]) -> None:
        """Write what tokens at these positions are, (texts, hidden)."""
        np.multiply(self.rows_of(tokens), np.float32(self.scale), out=out)
        if self.added is not None:
            out += self.added.take(places, 0)


@torch.no_grad()
def beginning_of(model: SteppingDecoderLM) -> Beginning | None:
    """Return what a decoder's tokens are before its first layer, or None if it cannot be told.

    So it is where its parts are those of this package, unwatched, and the positional encoding adds
    what depends on the position alone.
    """
    encoding, embedding = model.positions, _plain(model.embedding)
    if watched(embedding, *encoding.modules(), model.dropout):
        return None
    rows_of: Callable[[Sequence[int]], NDArray[np.float32]]
    if type(embedding) is nn.Embedding and loops.suit(embedding.weight):
        weight = embedding.weight.detach()
        if weight.dtype != torch.float32:
            return None
        table = weight.numpy()
        rows_of = lambda tokens: table.take(tokens, 0)  # noqa: E731
    elif type(embedding) is QuantizedEmbedding:
        by_number = rows_by_number(embedding.quantized)
        if by_number is None:
            return None
        rows_of = by_number
    else:
        return None
    context, hidden = model.config.context_length, model.config.hidden_size
    places = torch.arange(context)[None]
    sample = torch.randn(1, context, hidden, generator=torch.Generator().manual_seed(0))
    added = encoding.add(torch.zeros_like(sample), places)
    if not torch.equal(encoding.add(sample, places), sample + added):
        return None
    return Beginning(rows_of, model.embedding_scale, added[0].numpy() if added.any() else None)


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
    formats = {matrix.weight.dtype for layer in known for matrix in layer[:4]}
    if len(known) < len(weights) or len(formats) > 1:
        return None
    activation = _activation_of(model.layers[0])
    last = model.final_norm
    if activation is None or type(last) not in (FastLayerNorm, nn.Identity) or watched(last):
        return None
    return loops.decoding.Layers(
        known,
        num_heads=model.config.num_heads,
        norm_eps=model.config.norm_eps,
        norm_first=model.config.norm_placement == "pre",
        activation=activation,
        last_norm=_norm_weights(last) if isinstance(last, FastLayerNorm) else None,
        most_rows=MANY if any(map(_is_coded, parts)) else FEW,
    )


def _is_coded(part: nn.Module) -> bool:
    """Whether it is a quantized map whose codes the loops read."""
    if not isinstance(part, QuantizedLinear) or type(part) not in CODED:
        return False
    return matrix_of_codes(part) is not None


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
    matrices = [matrix for part in linears if (matrix := matrix_of(part, numbers)) is not None]
    scales = [_norm_weights(part) for part in norms if type(part) is FastLayerNorm]
    if len(matrices) < len(linears) or len(scales) < len(norms):
        return None
    projection, output, expand, contract = matrices
    return loops.decoding.LayerWeights(projection, output, expand, contract, *scales)


def _norm_weights(norm: LayerNorm) -> tuple[Tensor, Tensor]:
    weight = norm.weight.detach()
    return weight, torch.zeros_like(weight) if norm.bias is None else norm.bias.detach()


def matrix_of(linear: nn.Module, numbers: Numbers) -> Matrix | None:
    """Return a linear map as the loops read it, or None if they cannot.

    Args:
        linear: in float32, or one whose weight is kept in codes: these are read as they are, but
            for those of NormalFloat, which are read in float32.
        numbers: what others are read in: float32, which is not copied; bfloat16; or int8
            (``numbers.integers.INT8``).
    """
    if isinstance(linear, QuantizedLinear) and type(linear) in CODED:
        return matrix_of_codes(linear) or whole_matrix_of(linear)
    if type(linear) not in LINEARS:
        return None
    assert isinstance(linear, nn.Linear)
    weight = linear.weight.detach()
    if numbers != "int8":
        return loops.matrices.Matrix(weight.to(_FORMATS[numbers]).contiguous(), bias_of(linear))
    if weight.shape[1] > loops.matrices.LONGEST_GROUP:
        return None
    scale, _ = INT8.fit(weight)
    return loops.matrices.coded(INT8.encode(weight, scale), bias_of(linear), scale)
