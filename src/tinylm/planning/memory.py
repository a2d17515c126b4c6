"""Bytes of weights, optimizer state, KV cache and of the activations that training keeps."""

from __future__ import annotations

from tinylm.config import ModelConfig
from tinylm.planning.parameters import parameter_counts

_MOMENTS = {"adam": 2, "adamw": 2, "sgd": 1}


def kv_bytes(config: ModelConfig, batch: int, tokens: int, bytes_per_number: int = 4) -> int:
    """Return the bytes of the keys and values of ``batch`` sequences of ``tokens`` tokens.

    ``layers x 2 x heads x head_dim x tokens x bytes``, for every sequence (Pope et al. 2022).
    """
    per_token = config.num_layers * 2 * config.num_heads * config.resolved_head_dim
    return batch * tokens * per_token * bytes_per_number


def state_bytes(config: ModelConfig, optimizer: str = "adam", momentum: bool = True) -> int:
    """Return the bytes of weights, gradients and optimizer state in float32.

    Args:
        config: the model.
        optimizer: a name of the registry; ``torch-`` forms count as the others.
        momentum: whether SGD keeps one; Adam always keeps two moments.
    """
    moments = _MOMENTS[optimizer.removeprefix("torch-")]
    if moments == 1 and not momentum:
        moments = 0
    return 4 * parameter_counts(config)["total"] * (2 + moments)
