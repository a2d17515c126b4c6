"""The model that a configuration describes, as plans are made of it before any data are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinylm.config import ModelConfig, RunConfig


def sized_model(config: RunConfig) -> ModelConfig:
    """Return its sizes; an empty ``vocab_size`` is the largest that the tokenizer may have."""
    from dataclasses import replace

    from tinylm.registry import TOKENIZERS

    model = config.model
    if model.vocab_size is not None:
        return model
    tokenizer = TOKENIZERS.load(config.tokenizer.kind)
    return replace(model, vocab_size=tokenizer.largest_vocabulary(config.tokenizer))


def assumed_vocabulary(size: int) -> str:
    """Return what to say of a size that ``sized_model`` assumed."""
    return (
        f"model.vocab_size is empty: {size:,} is assumed, the largest that the tokenizer may have"
    )
