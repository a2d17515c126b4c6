"""How the weights of a new model are drawn, from torch's global random state."""

from __future__ import annotations

from torch import nn

from tinylm.config import ModelConfig


def draw_map(linear: nn.Linear) -> None:
    """Draw a map by Glorot and Bengio 2010 (uniform, equation 16), and set its bias to 0."""
    nn.init.xavier_uniform_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def draw_maps(module: nn.Module) -> None:
    """Draw all maps of a module, in the order of its parts."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            draw_map(part)


def draw_embedding(embedding: nn.Embedding, config: ModelConfig) -> None:
    """Draw an embedding N(0, 1/hidden_size), or N(0, 0.02), as in GPT-2, if it is not scaled.

    Scaled by sqrt(hidden_size) it then has unit variance.
    """
    std = config.hidden_size**-0.5 if config.scale_embeddings else 0.02
    nn.init.normal_(embedding.weight, std=std)
