"""What a decoder-only Transformer costs: its formulas, gathered for its class."""

from __future__ import annotations

from tinylm.config import ModelConfig
from tinylm.planning.activations import decoder_activations, decoder_layer_bytes
from tinylm.planning.flops import (
    DecoderFlops,
    decoder_decoding,
    decoder_forward,
    decoder_input_gradient,
)
from tinylm.planning.memory import decoder_backward, decoder_keys_and_values
from tinylm.planning.parameters import decoder_parameters
from tinylm.registry import POSITIONS


class DecoderCosts:
    """See ``planning.costs.Costs``, whose methods these are."""

    parameter_counts = staticmethod(decoder_parameters)
    input_gradient_flops = staticmethod(decoder_input_gradient)
    decoding_flops = staticmethod(decoder_decoding)
    decoding_bytes = staticmethod(decoder_keys_and_values)
    activation_bytes = staticmethod(decoder_activations)
    backward_bytes = staticmethod(decoder_backward)

    def forward_flops(self, config: ModelConfig, seq: int, quick: bool) -> DecoderFlops:
        """Return the FLOPs of a forward pass."""
        return decoder_forward(config, seq, quick)

    def layer_activation_bytes(
        self, config: ModelConfig, batch: int, seq: int, precision: str, quick: bool
    ) -> dict[str, int]:
        """Return what a layer keeps beside its input, by part."""
        return decoder_layer_bytes(config, batch, seq, precision, quick)

    def table_bytes(self, config: ModelConfig) -> int:
        """Return the bytes of the encoding's tables."""
        size: int = POSITIONS.load(config.positions).table_bytes(config)
        return size

    def inner_size(self, config: ModelConfig) -> int:
        """Return the width of the feed-forward part."""
        return config.resolved_ffn_size
