"""Greedy decoding: the likeliest token at every step."""

from __future__ import annotations

from torch import Tensor

from tinylm.config import GenerationConfig
from tinylm.generation import filters
from tinylm.generation.strategies import Chooser


class Greedy(Chooser):
    """Takes the likeliest token; only the repetition penalty of the settings applies."""

    @staticmethod
    def uses(config: GenerationConfig) -> tuple[str, ...]:
        """Return the settings that have an effect."""
        return ("repetition_penalty",)

    def __init__(self, config: GenerationConfig) -> None:
        self.config = config

    @property
    def temperature_alone(self) -> float | None:
        """0 where tokens are not penalised."""
        return 0.0 if self.config.repetition_penalty == 1 else None

    def choose(self, logits: Tensor, seen: Tensor | None, streams: Tensor) -> Tensor:
        """Return the likeliest ids, (batch,); shapes as in ``Chooser.choose``."""
        if seen is not None:
            logits = filters.repetition_penalty(logits, seen, self.config.repetition_penalty)
        return logits.argmax(-1)
