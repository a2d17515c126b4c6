"""What a prefix language model costs: a decoder, but for the pairs within the source.

The plain model computes a score for every pair of tokens, as the decoder does, and masks some of
them. The quick one leaves out the keys that no query of a block sees, and in a source every query
sees the source to its end. A row's source is counted as half of its tokens; a prompt is one whole.
"""

from __future__ import annotations

from tinylm.config import ModelConfig
from tinylm.planning.costs import PRODUCT_BYTES
from tinylm.planning.decoder import DecoderCosts
from tinylm.planning.flops import QUERY_BLOCK, DecoderFlops


def _pairs_ahead(source: int) -> int:
    """Return the pairs of a source that the decoder's blocks leave out."""
    ends = range(QUERY_BLOCK, source, QUERY_BLOCK)
    return sum(QUERY_BLOCK * (source - end) for end in ends)


def _flops_ahead(config: ModelConfig, source: int) -> int:
    width = config.num_heads * config.resolved_head_dim
    return config.num_layers * 2 * 2 * _pairs_ahead(source) * width


class PrefixCosts(DecoderCosts):
    """See ``planning.costs.Costs``."""

    def forward_flops(self, config: ModelConfig, seq: int, quick: bool) -> DecoderFlops:
        """Return the FLOPs of a forward pass."""
        plain = super().forward_flops(config, seq, quick)
        ahead = _flops_ahead(config, seq // 2) if quick else 0
        return DecoderFlops(
            projections=plain.projections,
            attention=plain.attention + ahead,
            feed_forward=plain.feed_forward,
            unembedding=plain.unembedding,
        )

    def decoding_flops(
        self, config: ModelConfig, prompt: int, new: int, cached: bool = True
    ) -> int:
        """Return the FLOPs of continuing a text whose prompt is the source."""
        reads = 1 if cached else new  # of the prompt, each with all of its pairs
        plain = super().decoding_flops(config, prompt, new, cached)
        return plain + reads * _flops_ahead(config, prompt)

    def layer_activation_bytes(
        self, config: ModelConfig, batch: int, seq: int, precision: str, quick: bool
    ) -> dict[str, int]:
        """Return what a layer keeps beside its input, by part."""
        parts = super().layer_activation_bytes(config, batch, seq, precision, quick)
        if quick:
            kept = batch * config.num_heads * _pairs_ahead(seq // 2) * PRODUCT_BYTES[precision]
            parts["pattern"] += kept
        return parts

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
        parts = super().activation_bytes(
            config, batch, seq, precision, segment, frozen_embedding, quick
        )
        if quick and not segment:
            plain = super().layer_activation_bytes(config, batch, seq, precision, quick)["pattern"]
            own = self.layer_activation_bytes(config, batch, seq, precision, quick)["pattern"]
            ahead = config.num_layers * (own - plain)
            parts["pattern"] += ahead
            parts["total"] += ahead
        return parts
