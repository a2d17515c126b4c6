"""Floating-point operations of matrix products, forward and backward.

A product of (m, k) and (k, n) costs ``2 m k n``. What is not a matrix product (norms, softmax,
activations, dropout, the optimizer) is left out, as in torch's FlopCounterMode and in the usual
count of model FLOPs (Kaplan et al. 2020, section 2.1): it is little arithmetic, though on a CPU
much time. Scores are counted for the pairs of positions that are computed, half of which are masked
in a short text: all of them, but by the quick model, which takes blocks of ``QUERY_BLOCK`` queries,
none with a key after the block. ``quick`` says which of the two is meant.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinylm.config import ModelConfig
from tinylm.planning.costs import ForwardFlops, costs_of
from tinylm.planning.parameters import trains_input

QUERY_BLOCK = 64
"""Queries that the quick model's attention mixes at once, on a CPU."""


def computed_pairs(seq: int, quick: bool = True) -> int:
    """Return for how many pairs of query and key attention computes a score."""
    if not quick:
        return seq * seq
    blocks, rest = divmod(seq, QUERY_BLOCK)
    return QUERY_BLOCK**2 * blocks * (blocks + 1) // 2 + rest * seq


def summed_pairs(seq: int) -> int:
    """Return the sum of ``computed_pairs`` of all lengths from 1 to ``seq``."""

    def numbers(count: int) -> int:  # 0 + 1 + … , so many
        return count * (count - 1) // 2

    def squares(count: int) -> int:
        return count * (count - 1) * (2 * count - 1) // 6

    # Length b * size + r has size^2 b (b + 1) / 2 + r (b * size + r) pairs.
    size = QUERY_BLOCK
    blocks, rest = divmod(seq + 1, size)
    whole = size**3 * (blocks - 1) * blocks * (blocks + 1) // 6
    whole += size * numbers(size) * numbers(blocks) + blocks * squares(size)
    last = rest * size**2 * blocks * (blocks + 1) // 2
    return whole + last + blocks * size * numbers(rest) + squares(rest)


@dataclass(frozen=True)
class DecoderFlops(ForwardFlops):
    """FLOPs of a decoder's forward pass over one sequence, by part."""

    projections: int
    """Queries, keys, values and output of the attention."""
    attention: int
    """Scores and the mixing of values, quadratic in the sequence."""
    feed_forward: int


def forward_flops(config: ModelConfig, seq: int, quick: bool = True) -> ForwardFlops:
    """Return the FLOPs of reading one sequence of ``seq`` tokens at once."""
    return costs_of(config).forward_flops(config, seq, quick)


def decoder_forward(config: ModelConfig, seq: int, quick: bool = True) -> DecoderFlops:
    """Return those of the decoder; see ``forward_flops``."""
    hidden, width = config.hidden_size, config.num_heads * config.resolved_head_dim
    layers = config.num_layers
    return DecoderFlops(
        projections=layers * seq * 2 * (hidden * 3 * width + width * hidden),
        attention=layers * 2 * (2 * computed_pairs(seq, quick) * width),
        feed_forward=layers * seq * 2 * (2 * hidden * config.resolved_ffn_size),
        unembedding=seq * 2 * hidden * config.resolved_vocab_size,
    )


def step_flops(
    config: ModelConfig, seq: int, frozen_embedding: bool = False, quick: bool = True
) -> int:
    """Return the FLOPs of forward and backward pass over one sequence.

    Every product has two in the backward pass, one for each factor's gradient. With a frozen
    embedding the first layer's map of its input has only one where nothing trained stands before
    it: the gradient of its input is not needed.
    """
    costs = costs_of(config)
    saved = costs.input_gradient_flops(config, seq) if frozen_embedding else 0
    return 3 * costs.forward_flops(config, seq, quick).total - saved


def decoder_input_gradient(config: ModelConfig, seq: int) -> int:
    """Return the FLOPs of the gradient of the decoder's embeddings, where nothing else needs it."""
    if config.norm_placement != "post" or trains_input(config):
        return 0
    width = config.num_heads * config.resolved_head_dim
    return 2 * seq * config.hidden_size * 3 * width


def flops_per_token(config: ModelConfig) -> float:
    """Return forward and backward FLOPs a token of the quick model, in full contexts."""
    return step_flops(config, config.context_length) / config.context_length


def decoding_flops(config: ModelConfig, prompt: int, new: int, cached: bool = True) -> int:
    """Return the FLOPs with which the quick model continues one sequence.

    With a cache every token is read once and attends to those before it; without, the whole text is
    read again for every token. The unembedding is computed for the last position only.

    Args:
        config: the model.
        prompt: tokens of the prompt.
        new: tokens generated after it.
        cached: whether there is a decoding state: a cache of keys and values, or what the kind has.
    """
    return costs_of(config).decoding_flops(config, prompt, new, cached)


def decoder_decoding(config: ModelConfig, prompt: int, new: int, cached: bool = True) -> int:
    """Return those of the decoder; see ``decoding_flops``."""
    hidden, width = config.hidden_size, config.num_heads * config.resolved_head_dim
    unembedding = new * 2 * hidden * config.resolved_vocab_size
    token = decoder_forward(config, 1)
    per_token = token.projections + token.feed_forward
    if not cached:
        read = new * prompt + new * (new - 1) // 2  # tokens, all texts together
        pairs = summed_pairs(prompt + new - 1) - summed_pairs(prompt - 1)
        return unembedding + read * per_token + config.num_layers * 4 * pairs * width
    pairs = (new - 1) * (2 * prompt + new) // 2  # keys that each token after the prompt sees
    later = (new - 1) * per_token + config.num_layers * 4 * pairs * width
    return unembedding + decoder_forward(config, prompt).layers + later
