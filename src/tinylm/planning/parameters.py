"""Parameters of a model, by part, from its sizes (equal to the built model's own count)."""

from __future__ import annotations

from tinylm.config import ModelConfig
from tinylm.planning.costs import costs_of
from tinylm.registry import POSITIONS


def trains_input(config: ModelConfig) -> bool:
    """Whether what the positions add to the embeddings is trained."""
    encoding = POSITIONS.load(config.positions)
    return bool(encoding.adds() and encoding.num_parameters(config))


def parameter_counts(config: ModelConfig) -> dict[str, int]:
    """Return the number of parameters by part, each counted once, and their ``total``.

    The parts are those of the built model's own ``parameter_counts``.

    Raises:
        ConfigError: if ``vocab_size`` is empty.
    """
    return costs_of(config).parameter_counts(config)


def decoder_parameters(config: ModelConfig) -> dict[str, int]:
    """Return those of the decoder; see ``parameter_counts``."""
    hidden, bias = config.hidden_size, int(config.bias)
    width = config.num_heads * config.resolved_head_dim
    vocabulary, inner = config.resolved_vocab_size, config.resolved_ffn_size
    norms = 2 * config.num_layers + (config.norm_placement == "pre")
    tied = config.tie_embeddings
    counts = {
        "embedding": vocabulary * hidden,
        "positions": POSITIONS.load(config.positions).num_parameters(config),
        "attention": config.num_layers * (3 * width * (hidden + bias) + hidden * (width + bias)),
        "feed-forward": config.num_layers * (inner * (hidden + bias) + hidden * (inner + bias)),
        "norms": norms * hidden * (1 + bias),
        "unembedding": 0 if tied else vocabulary * (hidden + bias),
    }
    counts["total"] = sum(counts.values())
    return counts
