"""Sampling from the filtered distribution of the next token.

Filters run in the order repetition penalty, temperature, top-k, top-p, min-p. A token is drawn by
inverting the cumulative distribution at a uniform number. Row i of a batch draws its numbers from
a generator seeded by (seed, i), so that its text does not depend on the rows beside it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinylm.config import GenerationConfig
from tinylm.generation import filters

_ROW_SEED_STRIDE = 0x9E3779B97F4A7C15  # an odd constant, so that rows of neighbouring seeds differ


def filtered_logits(config: GenerationConfig, logits: Tensor, seen: Tensor | None) -> Tensor:
    """Return logits whose softmax is the distribution that is sampled; temperature above 0."""
    if seen is not None:
        logits = filters.repetition_penalty(logits, seen, config.repetition_penalty)
    if config.temperature != 1:
        logits = filters.temperature(logits, config.temperature)
    if config.top_k:
        logits = filters.top_k(logits, config.top_k)
    if config.top_p < 1:
        logits = filters.top_p(logits, config.top_p)
    if config.min_p:
        logits = filters.min_p(logits, config.min_p)
    return logits


class Sampling:
    """Draws the next token; temperature 0 takes the likeliest."""

    def __init__(self, config: GenerationConfig) -> None:
        self.config = config
        self._generators: dict[int, torch.Generator] = {}

    def choose(self, logits: Tensor, seen: Tensor | None, rows: Tensor) -> Tensor:
        """Return drawn ids, (batch,); shapes as in ``Chooser.choose``."""
        if self.config.temperature == 0:
            if seen is not None:
                logits = filters.repetition_penalty(logits, seen, self.config.repetition_penalty)
            return logits.argmax(-1)
        probability = filtered_logits(self.config, logits.double(), seen).softmax(-1)
        return draw(probability, self._uniform(rows).to(logits.device))

    def _uniform(self, rows: Tensor) -> Tensor:
        """Return the next number of each row's own generator, (growing,)."""
        numbers = []
        for row in rows.tolist():
            if row not in self._generators:
                self._generators[row] = _generator(self.config.seed, row)
            numbers.append(torch.rand((), generator=self._generators[row]))
        return torch.stack(numbers)


def draw(probability: Tensor, uniform: Tensor) -> Tensor:
    """Return for each row the first token whose cumulative probability exceeds its number.

    Args:
        probability: (batch, vocab), float64, each row summing to 1 up to rounding.
        uniform: (batch,), in [0, 1).

    Returns:
        (batch,), int64; never a token of probability 0.
    """
    cumulative = probability.cumsum(-1)
    target = uniform.double()[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)


def _generator(seed: int, row: int) -> torch.Generator:
    generator = torch.Generator()
    generator.manual_seed((seed + (row + 1) * _ROW_SEED_STRIDE) % 2**63)
    return generator
