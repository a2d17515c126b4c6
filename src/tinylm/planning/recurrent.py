"""What a recurrent model costs: parameters, FLOPs, and what its backward pass keeps.

A layer of hidden size h and G gates has a map of the tokens and one of the state, G h^2 weights
each, and G h biases (2 G h where the state's map has its own). A token costs 2 x 2 G h^2 FLOPs in a
layer wherever it stands, read or generated; the state is ``states x h`` numbers a layer, however
long the text.

For the backward pass a layer of T = batch x seq tokens keeps its input, T h, and what its function
saves, ``kept`` arrays of T h: the outputs, the gates, the cells. In bf16 the map of the tokens has
an input and a matrix of 2 bytes a number; the recurrence stays in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinylm.config import ModelConfig
from tinylm.planning.activations import loss_bytes
from tinylm.planning.costs import PRODUCT_BYTES, ForwardFlops

_FLOAT, _INDEX = 4, 8  # bytes of a float32 and of an int64


@dataclass(frozen=True)
class RecurrentFlops(ForwardFlops):
    """FLOPs of a recurrent model's forward pass over one sequence, by part."""

    input: int
    """The maps of the tokens, all steps at once."""
    recurrent: int
    """The maps of the state, step by step."""


@dataclass(frozen=True)
class RecurrentCosts:
    """The formulas of a cell; ``planning.costs.Costs`` says what the methods return."""

    gates: int
    """Blocks of outputs of both maps."""
    states: int
    """Vectors in the state of a layer."""
    recurrent_bias: bool
    """Whether the map of the state has a bias."""
    kept: int
    """Arrays of (seq, batch, hidden) that its function saves."""
    temporary: int
    """Arrays of that size that its backward pass makes and holds at one time."""

    def parameter_counts(self, config: ModelConfig) -> dict[str, int]:
        """Return the parameters by part."""
        hidden, vocabulary, bias = config.hidden_size, config.resolved_vocab_size, int(config.bias)
        out = config.num_layers * self.gates * hidden
        counts = {
            "embedding": vocabulary * hidden,
            "input": out * (hidden + bias),
            "recurrent": out * (hidden + bias * self.recurrent_bias),
            "unembedding": 0 if config.tie_embeddings else vocabulary * (hidden + bias),
        }
        counts["total"] = sum(counts.values())
        return counts

    def table_bytes(self, config: ModelConfig) -> int:
        """Return 0: there are no tables."""
        return 0

    def forward_flops(self, config: ModelConfig, seq: int, quick: bool) -> RecurrentFlops:
        """Return the FLOPs of a forward pass."""
        product = config.num_layers * seq * 2 * self.gates * config.hidden_size**2
        return RecurrentFlops(
            input=product,
            recurrent=product,
            unembedding=seq * 2 * config.hidden_size * config.resolved_vocab_size,
        )

    def input_gradient_flops(self, config: ModelConfig, seq: int) -> int:
        """Return the FLOPs of the gradient of the first layer's input."""
        return seq * 2 * self.gates * config.hidden_size**2

    def decoding_flops(self, config: ModelConfig, prompt: int, new: int, cached: bool) -> int:
        """Return the FLOPs of continuing a text: linear in it with the state, else quadratic."""
        unembedding = new * 2 * config.hidden_size * config.resolved_vocab_size
        read = prompt + new - 1 if cached else new * prompt + new * (new - 1) // 2
        return unembedding + self.forward_flops(config, read, True).layers

    def decoding_bytes(
        self, config: ModelConfig, batch: int, tokens: int, bytes_per_number: int
    ) -> int:
        """Return the bytes of the states, whatever ``tokens`` is."""
        return batch * config.num_layers * self.states * config.hidden_size * bytes_per_number

    def layer_activation_bytes(
        self, config: ModelConfig, batch: int, seq: int, precision: str, quick: bool
    ) -> dict[str, int]:
        """Return what a layer keeps beside its input, by part."""
        stream = batch * seq * config.hidden_size
        number = PRODUCT_BYTES[precision]
        dropped = config.dropout > 0
        short = number < _FLOAT
        # What dropout or a cast makes of the layer below's output is an array of its own.
        return {
            "input": stream * number * (dropped or short),
            "recurrence": (self.kept * stream + batch * config.hidden_size) * _FLOAT,
            "dropout": stream * _FLOAT * (dropped and not quick),
            "copies": self.gates * config.hidden_size**2 * number * short,
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
        tokens, number = batch * seq, PRODUCT_BYTES[precision]
        stream = tokens * config.hidden_size * _FLOAT
        dropped, short = config.dropout > 0, number < _FLOAT
        parts = {
            "embedding": tokens * _INDEX * (not frozen_embedding),
            "dropout": stream * (dropped and not quick and not frozen_embedding),
            "loss": 0 if quick else loss_bytes(config, tokens, number),
        }
        if segment:
            parts["segments"] = -(-config.num_layers // segment) * stream
        else:
            for part, size in self.layer_activation_bytes(
                config, batch, seq, precision, quick
            ).items():
                parts[part] = parts.get(part, 0) + config.num_layers * size
            # The first layer's input is the scaled embedding.
            parts["input"] += stream * (not dropped and not short)
            if not quick and not dropped and not short and 1 in (batch, seq):
                # The output projection needs no copy of the last states.
                parts["loss"] -= stream
            if frozen_embedding:
                parts["copies"] -= self.gates * config.hidden_size**2 * number * short
        parts["total"] = sum(parts.values())
        return parts

    def backward_bytes(self, config: ModelConfig, tokens: int, precision: str, quick: bool) -> int:
        """Return what a layer's backward pass holds besides: an estimate."""
        return self.temporary * tokens * config.hidden_size * _FLOAT

    def inner_size(self, config: ModelConfig) -> int:
        """Return the width of a layer's widest array: the products with the tokens."""
        return self.gates * config.hidden_size
