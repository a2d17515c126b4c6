"""How many tokens and how much time a model needs."""

from __future__ import annotations

TOKENS_PER_PARAMETER = 20.0
"""Compute-optimal tokens a parameter: Hoffmann et al. 2022, "Training compute-optimal large
language models", approach 1 and table 3, rounded as is usual."""


def compute_optimal_tokens(parameters: int) -> float:
    """Return the training tokens at which a model of this size is compute-optimal."""
    return TOKENS_PER_PARAMETER * parameters


def training_seconds(flops: float, flops_per_second: float, utilisation: float) -> float:
    """Return the time that FLOPs take.

    Args:
        flops: of forward and backward passes.
        flops_per_second: what the machine's matrix products reach.
        utilisation: share of it that training reaches (model FLOPs utilisation).
    """
    return flops / (flops_per_second * utilisation)


def utilisation(flops: float, seconds: float, flops_per_second: float) -> float:
    """Return the model FLOPs utilisation: share of the machine's rate that was reached."""
    return flops / (seconds * flops_per_second)
