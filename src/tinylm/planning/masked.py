"""What a masked language model costs: the decoder's layers, every pair of places, and one more.

A window of ``seq`` tokens is read once in training, as ``seq + 1`` places, of which each sees every
other. The quick model computes all pairs too: no block of queries has keys that none of it sees.
Only the logits are of ``seq`` places.

In decoding there is nothing to keep but ids: every new token is predicted by a read of all tokens
before it and one place more, whatever is kept.
"""

from __future__ import annotations

from dataclasses import replace

from tinylm.config import ModelConfig
from tinylm.planning.activations import decoder_activations, decoder_layer_bytes, loss_bytes
from tinylm.planning.costs import PRODUCT_BYTES
from tinylm.planning.decoder import DecoderCosts
from tinylm.planning.flops import DecoderFlops, computed_pairs, decoder_forward
from tinylm.planning.memory import decoder_backward
from tinylm.planning.parameters import decoder_parameters

_FLOAT, _ID = 4, 8  # bytes of a float32 and of an id


def _extended(config: ModelConfig) -> ModelConfig:
    """Return the decoder that has as many places as a row is read as."""
    return replace(config, kind="decoder", context_length=config.context_length + 1)


class MaskedCosts(DecoderCosts):
    """See ``planning.costs.Costs``."""

    def parameter_counts(self, config: ModelConfig) -> dict[str, int]:
        """Return the parameters by part."""
        counts = decoder_parameters(_extended(config))
        total = counts.pop("total") + config.hidden_size
        return {**counts, "mask": config.hidden_size, "total": total}

    def table_bytes(self, config: ModelConfig) -> int:
        """Return the bytes of the encoding's tables."""
        return super().table_bytes(_extended(config))

    def forward_flops(self, config: ModelConfig, seq: int, quick: bool) -> DecoderFlops:
        """Return the FLOPs of a forward pass in which what is hidden is told."""
        read = decoder_forward(config, seq + 1, quick=False)
        logits = seq * 2 * config.hidden_size * config.resolved_vocab_size
        return replace(read, unembedding=logits)

    def input_gradient_flops(self, config: ModelConfig, seq: int) -> int:
        """Return 0: the vector of hidden tokens needs the gradient of the input in any case."""
        return 0

    def decoding_flops(
        self, config: ModelConfig, prompt: int, new: int, cached: bool = True
    ) -> int:
        """Return the FLOPs of continuing a text, which no state makes fewer."""

        def total(power: int, last: int) -> int:  # 1 + ... + last, or of their squares
            if power == 1:
                return last * (last + 1) // 2
            return last * (last + 1) * (2 * last + 1) // 6

        single = decoder_forward(config, 1, quick=False)
        first, last = prompt, prompt + new  # places of the first read less one, and of the last
        places, pairs = (total(power, last) - total(power, first) for power in (1, 2))
        layers = places * (single.projections + single.feed_forward) + pairs * single.attention
        return layers + new * single.unembedding

    def decoding_bytes(
        self, config: ModelConfig, batch: int, tokens: int, bytes_per_number: int
    ) -> int:
        """Return the bytes of the ids."""
        return batch * tokens * _ID

    def layer_activation_bytes(
        self, config: ModelConfig, batch: int, seq: int, precision: str, quick: bool
    ) -> dict[str, int]:
        """Return what a layer keeps beside its input, by part."""
        parts = decoder_layer_bytes(_extended(config), batch, seq + 1, precision, quick)
        return {
            **parts,
            "pattern": parts["pattern"] + _pairs_left_out(config, batch, seq, precision, quick),
        }

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
        parts = decoder_activations(
            _extended(config), batch, seq + 1, precision, segment, False, quick
        )
        if not segment:
            left_out = _pairs_left_out(config, batch, seq, precision, quick)
            parts["pattern"] += config.num_layers * left_out
        # Ids of the tokens, but not of the added place; positions of each row, where they are
        # looked up; and where the learned vector stands.
        positions = batch * (parts["embedding"] - batch * (seq + 1) * _ID)
        parts["embedding"] = positions + batch * seq * _ID * (not frozen_embedding)
        parts["embedding"] += batch * (2 * seq + 1)
        number = PRODUCT_BYTES[precision]
        parts["loss"] = 0 if quick else loss_bytes(config, batch * seq, number)
        if batch == 1 and not quick:  # what is unembedded is then a view of all places
            parts["loss"] += config.hidden_size * number
        del parts["total"]
        return {**parts, "total": sum(parts.values())}

    def backward_bytes(self, config: ModelConfig, tokens: int, precision: str, quick: bool) -> int:
        """Return what a layer's backward pass holds besides what was kept: an estimate."""
        batch = tokens // config.context_length
        return decoder_backward(_extended(config), tokens + batch, precision, quick)


def _pairs_left_out(config: ModelConfig, batch: int, seq: int, precision: str, quick: bool) -> int:
    """Return the bytes of a layer's patterns that the decoder's blocks would leave out."""
    pairs = (seq + 1) ** 2 - computed_pairs(seq + 1, quick)
    return batch * config.num_heads * pairs * PRODUCT_BYTES[precision]
