"""Bytes of activations: what the forward pass of a training step keeps for the backward pass.

Counted operation by operation as the model is built here and run on a CPU without
``torch.compile``, on full windows: what autograd saves, each storage once, parameters left out
(Korthikanti et al. 2022, "Reducing activation recomputation in large Transformer models", section
4, count another model the same way). ``e`` bytes hold a number of the matrix products, 4 in
float32 and 2 in bf16, where the residual stream and the norms stay in float32. With T = batch x
seq tokens, hidden size h, attention width w = heads x head_dim and inner width f, a layer keeps

====================================  =========================================================
input of the three projections        T h e
queries (scaled), keys, values        3 T w e
attention pattern                     batch x heads x seq^2 e; three of them with dropout: the
                                      pattern, the mask and their product
input of the output projection        T w e
input of the inner projection         T h e
activation, and the next one's input  T f e each: 1 for ReLU, 4 for GELU (``kept_arrays``)
masks of dropout on both outputs      2 T h e
both norms                            2 (2 T h + T) 4: centred, normalised, 1 / deviation
====================================  =========================================================

and in bf16 a copy of its matrices, 2 bytes a number. The output projection and the loss keep their
input, T h e, the log-probabilities, T x vocabulary x 4, the labels, and in bf16 a copy of the
matrix.

The quick model (``fast``: what ``training.speed = auto`` takes; counted with the compiled loops, as
on Linux) keeps no mask, nor what it leaves of the pattern: they are computed again; of queries,
keys and values 3 T w in any case; of the norms no centred numbers; of an activation in one pass its
input and its output (``kept_in_one_pass``). Beyond 64 tokens its pattern is kept in blocks of
queries, each without the keys that none of it sees. Its output loss keeps nothing that autograd
saves, but holds the gradients that it has made already.
"""

from __future__ import annotations

from tinylm.config import ModelConfig
from tinylm.planning.costs import PRODUCT_BYTES, costs_of
from tinylm.planning.flops import computed_pairs
from tinylm.planning.parameters import trains_input
from tinylm.registry import ACTIVATIONS, POSITIONS

_FLOAT, _INDEX = 4, 8  # bytes of a float32 and of an int64


def layer_activation_bytes(
    config: ModelConfig,
    batch: int,
    seq: int | None = None,
    precision: str = "fp32",
    quick: bool = False,
) -> dict[str, int]:
    """Return the bytes that one layer keeps, by part.

    Args:
        config: the model.
        batch: windows in a forward pass.
        seq: tokens of a window; empty: the context length.
        precision: fp32 or bf16.
        quick: whether it is the quick model's.
    """
    seq = seq or config.context_length
    return costs_of(config).layer_activation_bytes(config, batch, seq, precision, quick)


def decoder_layer_bytes(
    config: ModelConfig,
    batch: int,
    seq: int,
    precision: str,
    quick: bool,
    pairs: int | None = None,
) -> dict[str, int]:
    """Return those of a decoder layer; see ``layer_activation_bytes``.

    ``pairs`` of query and key have a score; None: as many as ``computed_pairs`` says.
    """
    tokens, number = batch * seq, PRODUCT_BYTES[precision]
    hidden, inner = config.hidden_size, config.resolved_ffn_size
    width = config.num_heads * config.resolved_head_dim
    dropped = config.dropout > 0
    # Keys and values are cut out of the joint projection. The product copies them, each on its own,
    # unless batch and heads are one axis already: then the whole projection is kept for its parts.
    whole = batch == 1 or config.num_heads == 1
    encoding = POSITIONS.load(config.positions)
    projected = 3 * tokens * width
    if whole and not quick:
        projected = tokens * width * (5 if encoding.turns() else 4)
    patterns = 3 if dropped and not quick else 1
    pairs = computed_pairs(seq, quick) if pairs is None else pairs
    matrices = 4 * hidden * width + 2 * hidden * inner
    activation = ACTIVATIONS.load(config.activation)
    inner_arrays = activation.kept_arrays
    if quick and activation.kept_in_one_pass is not None:
        inner_arrays = activation.kept_in_one_pass
    return {
        "projections": (tokens * (hidden + width) + projected) * number
        + encoding.kept_bytes_in_layer(config, seq),
        "pattern": patterns * batch * config.num_heads * pairs * number,
        "feed-forward": tokens * (hidden + inner_arrays * inner) * number,
        "dropout": 2 * tokens * hidden * number * (dropped and not quick),
        "norms": 2 * norm_bytes(config, tokens, quick),
        "copies": 0 if precision == "fp32" else matrices * number,
    }


def norm_bytes(config: ModelConfig, tokens: int, quick: bool) -> int:
    """Return what a norm keeps."""
    arrays = 1 if quick else 2
    return (arrays * config.hidden_size + 1) * tokens * _FLOAT


def activation_bytes(
    config: ModelConfig,
    batch: int,
    seq: int | None = None,
    precision: str = "fp32",
    segment: int = 0,
    frozen_embedding: bool = False,
    quick: bool = False,
) -> dict[str, int]:
    """Return the bytes that a forward pass and its loss keep, by part, and their ``total``.

    Args:
        config: the model.
        batch: windows in a forward pass.
        seq: tokens of a window; empty: the context length.
        precision: fp32 or bf16.
        segment: layers of which gradient checkpointing keeps the input alone; 0: none.
        frozen_embedding: whether the embedding is not trained; nothing before the first trained
            parameter is kept.
        quick: whether the model is the quick one.
    """
    seq = seq or config.context_length
    return costs_of(config).activation_bytes(
        config, batch, seq, precision, segment, frozen_embedding, quick
    )


def decoder_activations(
    config: ModelConfig,
    batch: int,
    seq: int,
    precision: str,
    segment: int,
    frozen_embedding: bool,
    quick: bool,
) -> dict[str, int]:
    """Return those of the decoder; see ``activation_bytes``."""
    tokens, number = batch * seq, PRODUCT_BYTES[precision]
    stream = tokens * config.hidden_size * _FLOAT  # the residual stream, (batch, seq, hidden)
    # Whether the first layer's input needs a gradient.
    trained = not frozen_embedding or trains_input(config)
    positions = POSITIONS.load(config.positions).kept_bytes(config, seq)
    parts = {
        "embedding": tokens * _INDEX * (not frozen_embedding) + positions,
        "dropout": stream * (config.dropout > 0 and trained and not quick),
        "norms": norm_bytes(config, tokens, quick) * (config.norm_placement == "pre"),
        "loss": 0 if quick else loss_bytes(config, tokens, number),
    }
    if segment:
        parts["segments"] = -(-config.num_layers // segment) * stream
    else:
        for part, size in decoder_layer_bytes(config, batch, seq, precision, quick).items():
            parts[part] = parts.get(part, 0) + config.num_layers * size
        if not trained and config.norm_placement == "post" and precision != "fp32":
            # Without the copy that gives the input's gradient.
            width = config.num_heads * config.resolved_head_dim
            parts["copies"] -= 3 * width * config.hidden_size * number
        if not trained and config.norm_placement == "pre" and not quick:
            # What the first norm would need for the gradient of its input.
            parts["norms"] -= norm_bytes(config, tokens, quick) - stream
    parts["total"] = sum(parts.values())
    return parts


def loss_bytes(config: ModelConfig, tokens: int, number: int) -> int:
    """Return what the plain output projection and loss keep: input, log-probabilities, labels."""
    hidden, vocab = config.hidden_size, config.resolved_vocab_size
    copy = hidden * vocab * number * (number < _FLOAT)  # of the matrix
    return tokens * (hidden * number + vocab * _FLOAT + _INDEX) + copy
