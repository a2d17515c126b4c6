"""Spaces small enough to list: five tokens that can be drawn, responses of four at most."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch

from tinylm.alignment.enumeration import Space
from tinylm.alignment.samples import Sample
from tinylm.config import ModelConfig
from tinylm.model.decoder import DecoderLM
from tinylm.tokenizers.base import SOS_ID

VOCAB_SIZE = 7  # <pad> and <sos> are never drawn
MOST = 4
PROMPT = (SOS_ID, 4, 5)


class TableReward:
    """A number for every response, drawn once by a seed: no structure to exploit."""

    label = "table"

    def __init__(self, seed: int = 0, scale: float = 1.0) -> None:
        self.seed = seed
        self.scale = scale

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        return [
            self.scale * float(np.random.default_rng((self.seed, *s.response)).normal())
            for s in samples
        ]


class CountReward:
    """How often a word stands in a response, a quarter each: what a small model can learn."""

    label = "count"

    def __init__(self, word: int = 4) -> None:
        self.word = word

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        return [s.ids.count(self.word) / MOST for s in samples]


def space_model(seed: int = 0, sharpness: float = 1.0, **settings: Any) -> DecoderLM:
    """A model in float64 and eval mode whose responses can be listed."""
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "context_length": 8,
        "num_layers": 1,
        "num_heads": 2,
        "hidden_size": 8,
        "dropout": 0.0,
    }
    torch.manual_seed(seed)
    model = DecoderLM(ModelConfig(**{**sizes, **settings})).double().eval()
    with torch.no_grad():
        model.unembedding.weight.mul_(sharpness)
    return model


def moved(model: DecoderLM, by: float = 0.1, seed: int = 1) -> DecoderLM:
    """A copy whose weights were moved at random: a policy some steps after the model."""
    copy = deepcopy(model).requires_grad_()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in copy.parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight.add_(by * noise)
    return copy


def space(start: DecoderLM, beta: float = 0.5, reward: Any = None) -> Space:
    """All responses to one prompt."""
    return Space(start, [PROMPT], MOST, TableReward() if reward is None else reward, beta)
