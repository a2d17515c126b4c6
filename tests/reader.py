"""A small kind of model that reads a source: a decoder to which its source's tokens are marked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tinylm.model.decoder import DecoderLM
from tinylm.registry import MODELS


class Reader(DecoderLM):
    """Adds 1 to the embeddings of the tokens that are its source."""

    needs_source = True
    view = "rest"

    def residual(
        self, ids: Tensor | None = None, *, given: Tensor | None = None, **named: Any
    ) -> Tensor:
        cache, real = named.get("cache"), named.get("real")
        if ids is None or (cache is not None and cache.length):
            return super().residual(ids, **named)
        counts = torch.ones_like(ids).cumsum(1) if real is None else real.cumsum(1)
        source = counts <= (1 if given is None else given[:, None])
        return super().residual(embeddings=self.embedding(ids) + source[..., None].float(), **named)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> str:
    """Register the kind for one test, and return its name."""
    entries = {**MODELS, "reader": f"{__name__}:Reader"}
    monkeypatch.setattr(MODELS, "_entries", entries)
    return "reader"
