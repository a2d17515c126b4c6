"""What a recurrent sequence-to-sequence model costs: parameters, FLOPs, bytes.

A row of ``seq`` tokens has half of them as its source, S, and the decoder reads T = seq - S + 1,
for the last token of the source is read by both. Encoder and decoder have ``num_layers`` layers
each, of hidden size h and G gates. A token of an encoder that reads one way costs 2 G h^2
multiplications in a layer; read both ways, in two halves of h / 2, G h^2 and half of that. A
decoder's costs 2 G h^2. The attention costs h^2 for the key of each source token, and 2 S h for
each token that is written, one with each key and one with each state, beside its maps. What is kept
of a text while it is written grows with the source, not with what is written.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinylm.config import ModelConfig
from tinylm.planning.activations import loss_bytes
from tinylm.planning.costs import PRODUCT_BYTES, ForwardFlops, halves

_FLOAT, _INDEX = 4, 8  # bytes of a float32 and of an int64


@dataclass(frozen=True)
class Seq2SeqFlops(ForwardFlops):
    """FLOPs of a forward pass over one sequence, by part."""

    encoder: int
    decoder: int
    attention: int
    """With its maps, and the map of its output."""


@dataclass(frozen=True)
class Seq2SeqCosts:
    """The formulas of a kind; ``planning.costs.Costs`` says what the methods return."""

    gates: int
    """Blocks of outputs of the maps of a cell."""
    states: int
    """Vectors in the state of a layer."""
    recurrent_bias: bool
    """Whether the map of the state has a bias."""
    kept: int
    """Arrays of (seq, batch, hidden) that the cell's function saves."""
    temporary: int
    """Arrays of that size that its backward pass makes and holds at one time."""
    additive: bool
    """Whether the attention is the additive one, with an encoder that reads from both ends."""

    def parameter_counts(self, config: ModelConfig) -> dict[str, int]:
        """Return the parameters by part."""
        hidden, vocabulary, bias = config.hidden_size, config.resolved_vocab_size, int(config.bias)
        gates, layers, own = self.gates, config.num_layers, bias * self.recurrent_bias
        start = hidden * (hidden // 2 + bias) * self.additive
        maps = self.additive * (hidden + 1 + gates * hidden) + hidden + bias * self.additive
        recurrent = sum(gates * size * (size + own) for size in self._encoders(config))
        counts = {
            "embedding": vocabulary * hidden,
            "encoder": layers * (gates * hidden * (hidden + bias) + recurrent),
            "decoder": layers * (gates * hidden * (2 * hidden + bias + own) + start),
            "attention": hidden * (maps + (2 + self.additive) * hidden + bias),
            "unembedding": 0 if config.tie_embeddings else vocabulary * (hidden + bias),
        }
        counts["total"] = sum(counts.values())
        return counts

    def table_bytes(self, config: ModelConfig) -> int:
        """Return 0: there are no tables."""
        return 0

    def forward_flops(self, config: ModelConfig, seq: int, quick: bool) -> Seq2SeqFlops:
        """Return the FLOPs of a forward pass."""
        return self._flops(config, *halves(seq), seq)

    def _flops(self, config: ModelConfig, source: int, target: int, outputs: int) -> Seq2SeqFlops:
        hidden, gates, layers = config.hidden_size, self.gates, config.num_layers
        square = hidden * hidden
        recurrent = sum(gates * size * size for size in self._encoders(config))
        maps = 2 + self.additive + self.additive * (1 + gates)
        return Seq2SeqFlops(
            encoder=2 * layers * source * (gates * square + recurrent),
            decoder=2 * layers * (target * 2 * gates * square
                                  + hidden * (hidden // 2) * self.additive),
            attention=2 * (source * square + target * maps * square + 2 * source * target * hidden),
            unembedding=2 * outputs * hidden * config.resolved_vocab_size,
        )  # fmt: skip

    def input_gradient_flops(self, config: ModelConfig, seq: int) -> int:
        """Return the FLOPs of the gradient of the first layers' inputs."""
        return sum(halves(seq)) * 2 * self.gates * config.hidden_size**2

    def decoding_flops(self, config: ModelConfig, prompt: int, new: int, cached: bool) -> int:
        """Return the FLOPs of continuing a source: with the state it is read once."""
        if cached:
            return self._flops(config, prompt, new, new).total
        # Linear in the tokens written so far: the mean pass, as often as there are tokens.
        first, last = (self._flops(config, prompt, count, 1).total for count in (1, new))
        return new * (first + last) // 2

    def decoding_bytes(
        self, config: ModelConfig, batch: int, tokens: int, bytes_per_number: int
    ) -> int:
        """Return the bytes of the states, and of states and keys of the source."""
        kept = config.num_layers * self.states + 2 * halves(tokens)[0]
        return batch * kept * config.hidden_size * bytes_per_number

    def layer_activation_bytes(
        self, config: ModelConfig, batch: int, seq: int, precision: str, quick: bool
    ) -> dict[str, int]:
        """Return what the last layer keeps, by part: the one that attends, which keeps most."""
        layer = self._pair(config, batch, seq, precision, quick)
        for part, size in self._attending(config, batch, seq, precision, quick).items():
            layer[part] = layer.get(part, 0) + size
        return layer

    def _pair(
        self, config: ModelConfig, batch: int, seq: int, precision: str, quick: bool
    ) -> dict[str, int]:
        """Return what a layer of encoder and decoder keeps: inputs, and what the cells save."""
        (source, target), hidden = halves(seq), config.hidden_size
        vector, number = batch * hidden, PRODUCT_BYTES[precision]
        short = number < _FLOAT
        # Both parts are one array; in bf16 each map makes a copy of its own.
        encoders = len(self._encoders(config))
        inputs = encoders * source + target if short else source + target
        start = batch * (hidden // 2) * number * (short and self.additive)
        maps = 2 * self.gates * hidden**2 + hidden * (hidden // 2) * self.additive
        return {
            "input": inputs * vector * number + start,
            # Each cell also saves a state to begin with.
            "recurrence": (self.kept * (source + target) + 2) * vector * _FLOAT,
            "dropout": (source + target) * vector * _FLOAT * (config.dropout > 0 and not quick),
            "copies": maps * number * short,
        }

    def _attending(
        self, config: ModelConfig, batch: int, seq: int, precision: str, quick: bool
    ) -> dict[str, int]:
        """Return what the last layer keeps beside those below it."""
        (source, target), hidden = halves(seq), config.hidden_size
        vector, number = batch * hidden, PRODUCT_BYTES[precision]
        short, parts = number < _FLOAT, 2 + self.additive
        # The states of the encoder with the texts first, which one text or token needs no copy for.
        copied = self.additive or 1 not in (batch, source)
        keys = (copied + 1) * source * vector * _FLOAT + source * vector * number * short
        return {
            # Contexts and queries.
            "recurrence": 2 * target * vector * _FLOAT * self.additive,
            "attention": keys + batch * target * source * _FLOAT,
            "output": target * vector * (parts * number + _FLOAT),
            # There is dropout on the output alone.
            "dropout": -source * vector * _FLOAT * (config.dropout > 0 and not quick),
            "copies": (1 + parts) * hidden**2 * number * short,
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
        (source, target), hidden = halves(seq), config.hidden_size
        tokens, number, trained = batch * seq, PRODUCT_BYTES[precision], not frozen_embedding
        both = batch * (source + target)
        short = number < _FLOAT
        some_left_out = source > 1  # labels, which a mask says
        parts = {
            "embedding": tokens * _INDEX * trained,
            # Where the tokens of both parts stand, and where the outputs belong.
            "division": both * _INDEX * trained + tokens * (_INDEX + 1),
            "dropout": both * hidden * _FLOAT * (config.dropout > 0 and not quick and trained),
            "loss": tokens * some_left_out,
        }
        if not quick:
            outputs = batch * target
            # The output projection is computed of all places, the loss of those that count.
            parts["loss"] += loss_bytes(config, outputs, number)
            parts["loss"] += (tokens - outputs) * hidden * number
        if segment:
            parts["segments"] = -(-config.num_layers // segment) * both * hidden * _FLOAT
        else:
            pair = self._pair(config, batch, seq, precision, quick)
            for part, size in pair.items():
                parts[part] = parts.get(part, 0) + config.num_layers * size
            for part, size in self._attending(config, batch, seq, precision, quick).items():
                parts[part] = parts.get(part, 0) + size
            if frozen_embedding:
                parts["copies"] -= 2 * self.gates * hidden**2 * number * short
        parts["total"] = sum(parts.values())
        return parts

    def backward_bytes(self, config: ModelConfig, tokens: int, precision: str, quick: bool) -> int:
        """Return what a layer's backward pass holds besides: an estimate, of one of the cells."""
        return self.temporary * (tokens // 2) * config.hidden_size * _FLOAT

    def inner_size(self, config: ModelConfig) -> int:
        """Return the width of a layer's widest array: the products with the tokens."""
        return self.gates * config.hidden_size

    def _encoders(self, config: ModelConfig) -> tuple[int, ...]:
        """Return the widths of an encoder's states in a layer."""
        hidden = config.hidden_size
        return (hidden - hidden // 2, hidden // 2) if self.additive else (hidden,)
