"""Bytes of weights, optimizer state and KV cache, and the most that a training step holds."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from tinylm.config import ModelConfig, TrainingConfig
from tinylm.planning.activations import activation_bytes, layer_activation_bytes
from tinylm.planning.costs import PRODUCT_BYTES, costs_of
from tinylm.planning.flops import QUERY_BLOCK
from tinylm.planning.parameters import parameter_counts
from tinylm.registry import OPTIMIZERS

_FLOAT = 4  # bytes of a number of weights, gradients, moments and residual stream
_CHUNK_BYTES, _CHUNK_ROWS = 40 * 2**20, (64, 2048)
"""Of the logits that the output loss computes at once (``fast.loss``): bytes, and rows at least and
at most."""


def kv_bytes(config: ModelConfig, batch: int, tokens: int, bytes_per_number: int = 4) -> int:
    """Return the bytes of the decoding state of ``batch`` sequences of ``tokens`` tokens.

    Of a decoder these are keys and values, ``layers x 2 x heads x head_dim x tokens x bytes`` for
    every sequence (Pope et al. 2022); a recurrent model's state is of one size.
    """
    return costs_of(config).decoding_bytes(config, batch, tokens, bytes_per_number)


def decoder_keys_and_values(
    config: ModelConfig, batch: int, tokens: int, bytes_per_number: int
) -> int:
    """Return those of the decoder; see ``kv_bytes``."""
    per_token = config.num_layers * 2 * config.num_heads * config.resolved_head_dim
    return batch * tokens * per_token * bytes_per_number


def state_bytes(config: ModelConfig, optimizer: str = "adam", momentum: bool = True) -> int:
    """Return the bytes of weights, gradients and optimizer state in float32.

    Args:
        config: the model.
        optimizer: a name of the registry OPTIMIZERS.
        momentum: whether SGD keeps one; Adam always keeps two moments.
    """
    return _FLOAT * parameter_counts(config)["total"] * (2 + _moments(optimizer, momentum))


def _moments(optimizer: str, momentum: bool) -> int:
    moments: int = OPTIMIZERS.load(optimizer).moments(momentum)
    return moments


@dataclass(frozen=True)
class StepBytes:
    """What a training step holds at one time."""

    time: str
    """During the output loss, the backward pass of the last or the first layer, or the update."""
    weights: int
    moments: int
    """State of the optimizer."""
    gradients: int
    """Those of weights that are there at that time."""
    activations: int
    """Kept for the backward pass, or computed again by it."""
    temporary: int
    """What is alive only within an operation or until the next: an estimate."""

    @property
    def total(self) -> int:
        """All together."""
        return self.weights + self.moments + self.gradients + self.activations + self.temporary


def step_peak(
    config: ModelConfig, training: TrainingConfig, frozen_embedding: bool = False
) -> StepBytes:
    """Return what an optimizer step holds at the time when it holds most, to about a tenth.

    Weights, moments, gradients and activations are counted. What is temporary is estimated by its
    largest arrays.

    Args:
        config: the model.
        training: batch, optimizer, accumulation and checkpointing; ``precision`` must be fp32 or
            bf16, not auto.
        frozen_embedding: whether the embedding is not trained.
    """
    batch, precision = training.batch_size, training.precision
    tokens, number = batch * config.context_length, PRODUCT_BYTES[precision]
    segment = min(training.gradient_checkpointing, config.num_layers)
    quick = training.speed == "auto"
    kept = activation_bytes(config, batch, None, precision, segment, frozen_embedding, quick)
    layer = layer_activation_bytes(config, batch, None, precision, quick)
    stream = tokens * config.hidden_size * _FLOAT  # (batch, seq, hidden)
    again = segment * sum(layer.values()) + stream if segment else 0

    counts = parameter_counts(config)
    trained = _FLOAT * (counts["total"] - frozen_embedding * counts["embedding"])
    output = config.resolved_vocab_size * config.hidden_size  # numbers of the output projection
    # From the second micro-batch on, all gradients are there already.
    before = trained if training.accumulation_steps > 1 else 0
    early = _FLOAT * output + before
    late = trained - (0 if frozen_embedding else _FLOAT * counts["embedding"])

    if quick:
        # The matrix in the kernels' order for two products, its gradient from one chunk, and one
        # chunk of logits at a time.
        types = config.resolved_vocab_size
        rows = min(_CHUNK_ROWS[1], max(_CHUNK_ROWS[0], _CHUNK_BYTES // (types * number)))
        logits = min(tokens, rows) * types * number
        loss = ("output loss", early, kept["total"], 2 * stream + 3 * output * number + logits)
    else:
        # The gradients of the log-probabilities and of the logits.
        logits = tokens * config.resolved_vocab_size * _FLOAT
        loss = ("output loss", before, kept["total"], 2 * logits)
    within = costs_of(config).backward_bytes(config, tokens, precision, quick)

    times = [
        loss,
        ("last layer, backward", early, kept["total"] - kept["loss"] + again, within),
        ("first layer, backward", late, again or sum(layer.values()), within),
        # A tied embedding has two gradients, which are added.
        ("update", trained, 0, 2 * _FLOAT * output * config.tie_embeddings),
    ]
    weights = _FLOAT * counts["total"]
    moments = _moments(training.optimizer, training.beta1 > 0) * trained
    peaks = (StepBytes(time, weights, moments, *parts) for time, *parts in times)
    return max(peaks, key=lambda peak: peak.total)


def decoder_backward(config: ModelConfig, tokens: int, precision: str, quick: bool) -> int:
    """Return what the backward pass of a decoder layer holds besides what was kept for it."""
    number, batch = PRODUCT_BYTES[precision], tokens // config.context_length
    # The gradients of the pattern and of the scores, when the feed-forward part is free already.
    queries = min(config.context_length, QUERY_BLOCK) if quick else config.context_length
    pairs = 2 * tokens * config.num_heads * queries * number
    inner = 2 * tokens * config.resolved_ffn_size * number
    layer = layer_activation_bytes(config, batch, None, precision, quick)
    return max(pairs - layer["feed-forward"], inner)


def largest_batch(
    config: ModelConfig, training: TrainingConfig, memory: float, frozen_embedding: bool = False
) -> int:
    """Return the largest ``batch_size`` whose step is estimated to fit; 0 if not even one does.

    Args:
        config: the model.
        training: as for ``step_peak``.
        memory: bytes.
        frozen_embedding: whether the embedding is not trained.
    """

    def fits(batch: int) -> bool:
        changed = replace(training, batch_size=batch)
        return step_peak(config, changed, frozen_embedding).total <= memory

    low, high = 0, 1
    while high <= sys.maxsize // 2 and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
