"""What an encoder–decoder costs: parameters, FLOPs, both caches, what its backward pass keeps.

A row of T tokens of which S are the source is S tokens in the encoder and T - S + 1 in the decoder,
which reads the last token of the source too. With hidden size h, attention width w and inner width
f a layer of the encoder has 4 h w + 2 h f weights, one of the decoder 8 h w + 2 h f. The source
goes through 2 h w of these in each layer of the decoder, for keys and values, and what is written
through the rest. Scores are S^2 in the encoder, and in the decoder T - S + 1 times the keys before
and S keys of the source.

A row counts with half of its tokens, ``seq // 2``, as the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinylm.config import ModelConfig
from tinylm.planning.activations import decoder_layer_bytes, loss_bytes, norm_bytes
from tinylm.planning.costs import PRODUCT_BYTES, ForwardFlops, halves
from tinylm.planning.flops import QUERY_BLOCK, computed_pairs, summed_pairs
from tinylm.planning.parameters import trains_input
from tinylm.registry import POSITIONS

_FLOAT, _INDEX = 4, 8  # bytes of a float32 and of an int64


@dataclass(frozen=True)
class EncoderDecoderFlops(ForwardFlops):
    """FLOPs of a forward pass over one row, by part."""

    encoder: int
    """All of the encoder's layers."""
    self_attention: int
    """The decoder's, with its projections."""
    cross_attention: int
    """Likewise, with the keys and values of the source."""
    feed_forward: int
    """The decoder's."""


class EncoderDecoderCosts:
    """See ``planning.costs.Costs``, whose methods these are."""

    PARTS: ClassVar[tuple[str, ...]] = (
        *("embedding", "positions", "encoder attention", "encoder feed-forward"),
        *("attention", "cross-attention", "feed-forward", "norms", "unembedding"),
    )
    """Of the parameters."""

    def parameter_counts(self, config: ModelConfig) -> dict[str, int]:
        """Return the parameters by part."""
        hidden, bias, layers = config.hidden_size, int(config.bias), config.num_layers
        width, inner = config.num_heads * config.resolved_head_dim, config.resolved_ffn_size
        vocabulary = config.resolved_vocab_size
        attention = layers * (3 * width * (hidden + bias) + hidden * (width + bias))
        feed_forward = layers * (inner * (hidden + bias) + hidden * (inner + bias))
        norms = 5 * layers + 2 * (config.norm_placement == "pre")
        numbers = (
            *(vocabulary * hidden, POSITIONS.load(config.positions).num_parameters(config)),
            *(attention, feed_forward, attention, attention, feed_forward),
            norms * hidden * (1 + bias),
            0 if config.tie_embeddings else vocabulary * (hidden + bias),
        )
        counts = dict(zip(self.PARTS, numbers, strict=True))
        counts["total"] = sum(counts.values())
        return counts

    def table_bytes(self, config: ModelConfig) -> int:
        """Return the bytes of the encoding's tables, which both stacks use."""
        size: int = POSITIONS.load(config.positions).table_bytes(config)
        return size

    def forward_flops(self, config: ModelConfig, seq: int, quick: bool) -> EncoderDecoderFlops:
        """Return the FLOPs of a forward pass."""
        source, written = halves(seq)
        return self._forward(config, source, written, computed_pairs(written, quick), seq)

    def _forward(
        self, config: ModelConfig, source: int, written: int, pairs: int, outputs: int
    ) -> EncoderDecoderFlops:
        """Return those of a source and what is written, with so many scores and last products."""
        layers, hidden = config.num_layers, config.hidden_size
        width, inner = config.num_heads * config.resolved_head_dim, config.resolved_ffn_size
        square, feed_forward = 2 * hidden * width, 2 * 2 * hidden * inner
        crossed = written * 2 * square + source * 2 * square + 4 * source * written * width
        return EncoderDecoderFlops(
            encoder=layers * (source * (4 * square + feed_forward) + 4 * source**2 * width),
            self_attention=layers * (written * 4 * square + 4 * pairs * width),
            cross_attention=layers * crossed,
            feed_forward=layers * written * feed_forward,
            unembedding=outputs * 2 * hidden * config.resolved_vocab_size,
        )

    def input_gradient_flops(self, config: ModelConfig, seq: int) -> int:
        """Return the FLOPs of the gradients of both stacks' inputs."""
        if config.norm_placement != "post" or trains_input(config):
            return 0
        width = config.num_heads * config.resolved_head_dim
        return 2 * sum(halves(seq)) * config.hidden_size * 3 * width

    def decoding_flops(self, config: ModelConfig, prompt: int, new: int, cached: bool) -> int:
        """Return the FLOPs of writing after a source: with the caches it is read once."""
        if cached:
            pairs = new * (new + 1) // 2  # keys that each token sees
            return self._forward(config, prompt, new, pairs, new).total
        # The encoder reads the source for every token, the decoder all before it.
        pairs = summed_pairs(new)
        read = self._forward(config, prompt, 0, 0, 0).total
        written = self._forward(config, 0, new * (new + 1) // 2, pairs, new).total
        width = config.num_heads * config.resolved_head_dim
        crossed = config.num_layers * 4 * prompt * (new * (new + 1) // 2) * width
        return new * read + written + crossed

    def decoding_bytes(
        self, config: ModelConfig, batch: int, tokens: int, bytes_per_number: int
    ) -> int:
        """Return those of both caches: of the source, and of what the decoder reads."""
        width = config.num_heads * config.resolved_head_dim
        return batch * sum(halves(tokens)) * config.num_layers * 2 * width * bytes_per_number

    def layer_activation_bytes(
        self, config: ModelConfig, batch: int, seq: int, precision: str, quick: bool
    ) -> dict[str, int]:
        """Return what a layer of the decoder keeps, by part; one of the encoder keeps less."""
        return self._layers(config, batch, seq, precision, quick)[1]

    def _layers(
        self, config: ModelConfig, batch: int, seq: int, precision: str, quick: bool
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Return what a layer of the encoder keeps, and one of the decoder."""
        source, written = halves(seq)
        read = decoder_layer_bytes(config, batch, source, precision, quick, source**2)
        parts = decoder_layer_bytes(config, batch, written, precision, quick)
        return read, {
            **parts,
            **self._crossed(config, batch, source, written, precision, quick),
        }

    def _crossed(
        self,
        config: ModelConfig,
        batch: int,
        source: int,
        written: int,
        precision: str,
        quick: bool,
    ) -> dict[str, int]:
        """Return what the cross-attention of a layer keeps."""
        number = PRODUCT_BYTES[precision]
        hidden, width = config.hidden_size, config.num_heads * config.resolved_head_dim
        tokens, read = batch * written, batch * source
        dropped, short = config.dropout > 0, number < _FLOAT
        patterns = 3 if dropped and not quick else 1
        kept = (
            tokens * (hidden + 2 * width)  # input, queries, input of the output projection
            + read * (2 * width + hidden * short)  # keys, values, the memory in short numbers
            + patterns * batch * config.num_heads * source * written
            + tokens * hidden * (dropped and not quick)
            + 4 * hidden * width * short
        )
        return {"cross-attention": kept * number + norm_bytes(config, tokens, quick)}

    def activation_bytes(
        self,
        config: ModelConfig,
        batch: int,
        seq: int,
        precision: str,
        segment: int,
        frozen_embedding: bool,
        quick: bool,
    ) -> dict[str, int]:
        """Return what a forward pass and its loss keep, by part."""
        source, written = halves(seq)
        both, number = batch * (source + written), PRODUCT_BYTES[precision]
        stream = both * config.hidden_size * _FLOAT
        trained = not frozen_embedding or trains_input(config)
        encoding = POSITIONS.load(config.positions)
        positions = sum(encoding.kept_bytes(config, part) for part in (source, written))
        parts = {
            "embedding": both * _INDEX * (not frozen_embedding) + positions,
            "dropout": stream * (config.dropout > 0 and trained and not quick),
            "norms": norm_bytes(config, both, quick) * (config.norm_placement == "pre"),
            "loss": 0 if quick else loss_bytes(config, batch * seq, number),
            # Where the decoder's tokens stand in their rows.
            "rows": batch * written * _INDEX,
        }
        memory = batch * source * config.hidden_size * _FLOAT
        if segment:
            parts["segments"] = -(-config.num_layers // segment) * stream + memory
        else:
            parts["memory"] = memory * (number == _FLOAT)  # else its copies are
            for layer in self._layers(config, batch, seq, precision, quick):
                for part, size in layer.items():
                    parts[part] = parts.get(part, 0) + config.num_layers * size
            width = config.num_heads * config.resolved_head_dim
            if not trained and config.norm_placement == "post" and number < _FLOAT:
                # Without the copies that give the inputs' gradients.
                parts["copies"] -= 2 * 3 * width * config.hidden_size * number
            if not trained and config.norm_placement == "pre" and not quick:
                # What the first norms would need for the gradients of their inputs.
                parts["norms"] -= norm_bytes(config, both, quick) - stream
        parts["total"] = sum(parts.values())
        return parts

    def backward_bytes(self, config: ModelConfig, tokens: int, precision: str, quick: bool) -> int:
        """Return what a layer's backward pass holds besides: an estimate."""
        number, batch = PRODUCT_BYTES[precision], tokens // config.context_length
        source, written = halves(config.context_length)
        queries = min(written, QUERY_BLOCK) if quick else written
        pairs = 2 * batch * config.num_heads * queries * max(source, written) * number
        inner = 2 * batch * written * config.resolved_ffn_size * number
        return max(pairs, inner)

    def inner_size(self, config: ModelConfig) -> int:
        """Return the width of the feed-forward part."""
        return config.resolved_ffn_size
