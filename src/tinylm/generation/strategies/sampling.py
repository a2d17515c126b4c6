"""Sampling from the filtered distribution of the next token.

Filters run in the order repetition penalty, temperature, top-k, top-p, min-p. A token is drawn by
inverting the cumulative distribution at a uniform number. Each text draws its numbers from a
generator of its own, seeded by the seed and its stream (``generation.streams``), so that it does
not depend on the texts beside it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinylm.config import GenerationConfig
from tinylm.generation import filters
from tinylm.generation.strategies import Chooser

_ALWAYS = ("temperature", "repetition_penalty")
_DRAWING = ("top_k", "top_p", "min_p", "seed")
"""Settings that have an effect only where tokens are drawn."""
_AT_ONCE = 64
"""Numbers; one call for each would take as long as to choose by it."""
_STRIDE = 0x9E3779B97F4A7C15  # an odd constant, so that streams of neighbouring seeds differ


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


class Sampling(Chooser):
    """Draws the next token; temperature 0 takes the likeliest."""

    @staticmethod
    def uses(config: GenerationConfig) -> tuple[str, ...]:
        """Return the settings that have an effect; at temperature 0 there is nothing to filter."""
        return _ALWAYS if config.temperature == 0 else (*_ALWAYS, *_DRAWING)

    @staticmethod
    def where_unused(config: GenerationConfig, name: str) -> str:
        """Return where a setting has no effect: those of drawing have none at temperature 0."""
        if name in _DRAWING:
            return "at temperature 0, which takes the likeliest token"
        return Chooser.where_unused(config, name)

    def __init__(self, config: GenerationConfig) -> None:
        self.config = config
        self._generators: dict[int, torch.Generator] = {}
        self._coming: dict[int, list[float]] = {}

    @property
    def temperature_alone(self) -> float | None:
        """The temperature, where tokens are not penalised, nor filtered before one is drawn."""
        config = self.config
        filtered = config.temperature > 0 and (config.top_k or config.top_p < 1 or config.min_p)
        return None if filtered or config.repetition_penalty != 1 else config.temperature

    def choose(self, logits: Tensor, seen: Tensor | None, streams: Tensor) -> Tensor:
        """Return drawn ids, (batch,); shapes as in ``Chooser.choose``."""
        if self.config.temperature == 0:
            if seen is not None:
                logits = filters.repetition_penalty(logits, seen, self.config.repetition_penalty)
            return logits.argmax(-1)
        probability = filtered_logits(self.config, logits.double(), seen).softmax(-1)
        return draw(probability, self.uniform(streams).to(logits.device))

    def uniform(self, streams: Tensor) -> Tensor:
        """Return the next number of each text's own generator, (growing,), float32."""
        numbers = []
        for stream in streams.tolist():
            coming = self._coming.setdefault(stream, [])
            if not coming:
                if stream not in self._generators:
                    self._generators[stream] = _generator(self.config.seed, stream)
                several = torch.rand(_AT_ONCE, generator=self._generators[stream])
                coming.extend(several.flip(0).tolist())  # taken from the end
            numbers.append(coming.pop())
        return torch.tensor(numbers)


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


def _generator(seed: int, stream: int) -> torch.Generator:
    generator = torch.Generator()
    generator.manual_seed((seed + (stream + 1) * _STRIDE) % 2**63)
    return generator
