"""Perplexity of a loss, and how one is written."""

from __future__ import annotations

import math

_LARGEST_LOSS = 700.0  # nats; exp of 710 is more than a float holds


def perplexity(loss: float) -> float:
    """Return exp of a mean loss in nats a token; from 700 nats on, that of 700."""
    return math.exp(min(loss, _LARGEST_LOSS))


def perplexity_text(value: float) -> str:
    """Return a perplexity as it is printed: ``12.34``, or ``1.23e+45`` from a million on."""
    return f"{value:.2f}" if value < 1e6 else f"{value:.2e}"
