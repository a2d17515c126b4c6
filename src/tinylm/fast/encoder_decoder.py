"""The encoder–decoder, quick: the decoder's quick parts in both stacks, and the loss in chunks.

Cross-attention in training is the loops' attention with other keys. In decoding its keys and values
stay, so that a step multiplies by those that are held; the layers run in turn, each part quick.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from tinylm.fast import loops
from tinylm.fast.attention import FastAttention, FastCrossAttention
from tinylm.fast.cache import StepCache
from tinylm.fast.decoder import LossInChunks
from tinylm.fast.decoding import QuickOutput
from tinylm.fast.layers import FastDecoderLayer, FastFeedForward, add_norm, in_turn_with_copies
from tinylm.fast.linear import watched
from tinylm.model.cache import KVCache
from tinylm.model.encoder_decoder import CrossDecoderLayer, EncoderDecoderLM
from tinylm.model.reading import Reading


class FastCrossDecoderLayer(FastDecoderLayer, CrossDecoderLayer):
    """A decoder layer with cross-attention, its residual sums and norms one pass each."""

    def with_copy(
        self, x: Tensor, low: Tensor | None, reading: Reading
    ) -> tuple[Tensor, Tensor | None]:
        """Map the residual stream to the next layer's, each with a copy in bfloat16 or without."""
        if self.norm_first or reading.hooks.active:
            return CrossDecoderLayer.forward(self, x, reading), None
        attention, crossing, feed_forward = self.attention, self.cross_attention, self.feed_forward
        if isinstance(attention, FastAttention) and not watched(attention):
            mixed = attention(x, reading, low)
        else:
            mixed = attention(x, reading)
        x, low = add_norm(x, mixed, self.dropout, self.attention_norm)
        if isinstance(crossing, FastCrossAttention) and not watched(crossing):
            mixed = crossing(x, reading, low)
        else:
            mixed = crossing(x, reading)
        x, low = add_norm(x, mixed, self.dropout, self.cross_attention_norm)
        if isinstance(feed_forward, FastFeedForward) and not watched(feed_forward):
            inner = feed_forward(x, reading.hooks, low)
        else:
            inner = feed_forward(x, reading.hooks)
        return add_norm(x, inner, self.dropout, self.feed_forward_norm)


class FastEncoderDecoderLM(LossInChunks, EncoderDecoderLM):
    """With copies of the residual streams in bfloat16 from layer to layer."""

    def run_layers(self, layers: Iterable[nn.Module], x: Tensor, reading: Reading) -> Tensor:
        """Run ``x`` through all layers of a stack; see ``EncoderDecoderLM.run_layers``."""
        if self.layer_runner is not None or reading.hooks.active:
            return super().run_layers(layers, x, reading)
        return in_turn_with_copies(layers, x, reading)


class SteppingEncoderDecoderLM(QuickOutput, FastEncoderDecoderLM):
    """For decoding: a cache of what is written that the loops read in place."""

    def new_cache(self, **sizes: int) -> KVCache:
        """Return an empty cache that the loops read; see ``EncoderDecoderLM.new_cache``."""
        weight = next(self.parameters())
        if not loops.suit(weight):
            return super().new_cache(**sizes)
        prefix = max(0, sizes.get("capacity", 0) - self.config.context_length)
        return StepCache(
            self.config,
            dtype=self._cache_format(weight),
            tables=self._tables(self.positions, prefix),
            layers=None,
            beginning=None,
            output=None,
            **sizes,
        )


class Float32EncoderDecoder(SteppingEncoderDecoderLM):
    """With linear maps as they are."""


class BFloat16EncoderDecoder(SteppingEncoderDecoderLM):
    """With linear maps rounded to bfloat16."""

    numbers = "bfloat16"


class Int8EncoderDecoder(SteppingEncoderDecoderLM):
    """With linear maps rounded to 8-bit integers."""

    numbers = "int8"
