"""The sizes of a Transformer decoder and what follows from them: parameters and FLOPs by part.

A configuration of tinylm is counted by ``planning.parameters`` and ``planning.flops``. Sizes alone
describe other decoders too: with gated feed-forward parts of three matrices (Shazeer 2020) and with
fewer heads of keys and values than of queries (Ainslie et al. 2023). For those that tinylm builds,
both ways give the same numbers.

With hidden size h, query width w = heads x head_dim, key width k, inner width f in g matrices (2,
or 3 if gated), a layer has

    attention      2 h w + 2 h k        FLOPs a token forward    2 (2 h w + 2 h k) + 4 s w
    feed-forward   g h f                                         2 g h f

parameters, biases and norms left out of this table, and 4 s w for scores and mixing over all s
places, as usual in counts of model FLOPs (Chowdhery et al. 2022, appendix B). With E experts, of
which a token goes through some (Shazeer et al. 2017), the feed-forward part has E times the
parameters, a token takes the FLOPs of its own ones, and a router has h E more.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinylm.config import ModelConfig
from tinylm.errors import ConfigError
from tinylm.planning.flops import DecoderFlops, forward_flops
from tinylm.planning.parameters import parameter_counts


@dataclass(frozen=True)
class Shape:
    """A decoder by its sizes."""

    layers: int
    hidden: int
    heads: int
    context: int
    vocabulary: int
    key_heads: int
    """Heads of keys and values."""
    head_dim: int
    ffn: int
    gated: bool = False
    tied: bool = True
    """Whether the embedding is the output projection too."""
    bias: bool = True
    """Of maps and norms."""
    places: int = 0
    """Rows of a learned table of positions."""
    dropout: bool = False
    norms: int = 2
    """Arrays of a norm's parameters, weight and bias."""
    final_norm: bool = True
    unembedding_bias: bool = False
    experts: int = 1
    """Feed-forward parts of a layer."""
    active: int = 1
    """Those that a token goes through."""

    @property
    def width(self) -> int:
        """Width of all queries."""
        return self.heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Width of all keys, and of all values."""
        return self.key_heads * self.head_dim

    @property
    def matrices(self) -> int:
        """Matrices of a feed-forward part."""
        return 3 if self.gated else 2

    @property
    def router(self) -> int:
        """Parameters of the map that chooses experts."""
        return self.hidden * self.experts * (self.experts > 1)

    @property
    def expert_parameters(self) -> int:
        """Parameters of a layer's feed-forward parts, all experts together."""
        biases = self.bias * ((self.matrices - 1) * self.ffn + self.hidden)
        return self.experts * (self.matrices * self.hidden * self.ffn + biases)

    @property
    def shared_parameters(self) -> int:
        """Parameters of a layer without its feed-forward parts."""
        maps = 2 * self.hidden * (self.width + self.key_width)
        biases = self.bias * (self.width + 2 * self.key_width + self.hidden)
        return maps + biases + 2 * self.norms * self.hidden + self.router

    @property
    def layer_parameters(self) -> int:
        """Parameters of a layer."""
        return self.shared_parameters + self.expert_parameters

    @property
    def embedding_parameters(self) -> int:
        """Parameters before the first layer."""
        return (self.vocabulary + self.places) * self.hidden

    @property
    def output_parameters(self) -> int:
        """Parameters after the last layer, those that it shares with the embedding left out."""
        own = 0 if self.tied else self.vocabulary * (self.hidden + self.unembedding_bias)
        return own + self.final_norm * self.norms * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters, each once."""
        layers = self.layers * self.layer_parameters
        return layers + self.embedding_parameters + self.output_parameters

    @property
    def layer_map_flops(self) -> int:
        """Forward FLOPs a token of a layer's maps."""
        maps = 2 * self.hidden * (self.width + self.key_width) + self.router
        return 2 * (maps + self.active * self.matrices * self.hidden * self.ffn)

    @property
    def layer_score_flops(self) -> int:
        """Forward FLOPs a token of a layer's scores and mixing, all pairs of places counted."""
        return 4 * self.context * self.width

    @property
    def output_flops(self) -> int:
        """Forward FLOPs a token of the output projection."""
        return 2 * self.hidden * self.vocabulary

    @property
    def model_flops(self) -> int:
        """Forward and backward FLOPs a token: what the model needs, whatever is computed twice."""
        layer = self.layer_map_flops + self.layer_score_flops
        return 3 * (self.layers * layer + self.output_flops)

    @classmethod
    def gpt(cls, layers: int, hidden: int, heads: int, context: int, vocabulary: int) -> Shape:
        """Return a decoder of the family of GPT-2 and GPT-3, dropout and learned positions."""
        return cls(
            layers, hidden, heads, context, vocabulary, heads, -(-hidden // heads), 4 * hidden,
            places=context, dropout=True,
        )  # fmt: skip

    @classmethod
    def of(cls, config: ModelConfig) -> Shape:
        """Return the sizes of a decoder of tinylm.

        Raises:
            ConfigError: if it is another kind of model, or ``vocab_size`` is empty.
        """
        if not isinstance(forward_flops(config, 2), DecoderFlops):
            raise ConfigError(
                f"model.kind = {config.kind} is not laid out over cards: give a decoder"
            )
        counts = parameter_counts(config)
        shape = cls(
            layers=config.num_layers,
            hidden=config.hidden_size,
            heads=config.num_heads,
            context=config.context_length,
            vocabulary=config.resolved_vocab_size,
            key_heads=config.num_heads,
            head_dim=config.resolved_head_dim,
            ffn=config.resolved_ffn_size,
            tied=config.tie_embeddings,
            bias=config.bias,
            places=counts["positions"] // config.hidden_size,
            dropout=config.dropout > 0,
            norms=1 + config.bias,
            final_norm=config.norm_placement == "pre",
            unembedding_bias=config.bias,
        )
        if shape.parameters != counts["total"]:
            raise ConfigError(
                f"model.kind = {config.kind} is not laid out over cards: its layers are not those "
                "of a decoder"
            )
        return shape


ASPECT = 128
"""Hidden size a layer of a model of which only the number of parameters is given: GPT-3's (Brown et
al. 2020, table 2.1: 12,288 / 96)."""
HEAD = 128
"""Width of a head of such a model, GPT-3's too."""


def shape_of_size(parameters: float, context: int, vocabulary: int) -> Shape:
    """Return a decoder of about so many parameters, 12 layers x hidden² of them in its layers.

    Its layers are a multiple of 8 from 16 on, so that they divide among stages.

    Raises:
        ConfigError: for fewer than a layer of one head has.
    """
    depth = (parameters / (12 * ASPECT**2)) ** (1 / 3)
    layers = max(1, round(depth)) if depth < 12 else 8 * round(depth / 8)
    hidden = HEAD * round((parameters / (12 * layers)) ** 0.5 / HEAD)
    if not hidden:
        raise ConfigError(
            f"--parameters {parameters:,.0f} is less than a layer of width {HEAD} has: give "
            "--layers, --hidden and --heads"
        )
    return Shape.gpt(layers, hidden, hidden // HEAD, context, vocabulary)
