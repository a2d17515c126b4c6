"""Rotary positions (Su et al. 2021, RoFormer, section 3.4.2).

Pair ``(x[i], x[i + d/2])`` of a query or key at position p is turned by the angle
``p * 10000^(-2i/d)``; a score then depends on the distance of query and key alone. Pairs are
halves apart, as in GPT-NeoX and LLaMA; the paper's neighbouring pairs are the same up to a
permutation of the dimensions. No parameters; two multiplications and an addition a number.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.errors import ConfigError
from tinylm.model.positions import Explanation, Positions


class RotaryPositions(Positions):
    """Turns queries and keys by an angle that grows with the position."""

    label = "rotary positions"
    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        """Prepare the tables.

        Raises:
            ConfigError: if the head dimension is odd.
        """
        super().__init__(config)
        head_dim = config.resolved_head_dim
        if head_dim % 2:
            raise ConfigError(
                f"model.positions = rotary needs an even model.head_dim, not {head_dim}: "
                f"set model.head_dim={head_dim + 1}"
            )
        frequency = 10_000 ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        position = torch.arange(config.context_length, dtype=torch.float64)
        angle = torch.outer(position, frequency).repeat(1, 2)  # the same angles for both halves
        dtype = torch.get_default_dtype()
        self.register_buffer("cos", angle.cos().to(dtype), persistent=False)  # (context, head_dim)
        self.register_buffer("sin", angle.sin().to(dtype), persistent=False)

    @classmethod
    def explanation(cls, config: ModelConfig) -> Explanation:
        """Return what the report says of it."""
        return Explanation(
            "The order of the tokens enters in the attention: queries and keys are rotated by "
            "angles in proportion to their positions [[su2021]], so that a score depends on the "
            "distance between two tokens and not on their absolute positions."
        )

    @classmethod
    def table_bytes(cls, config: ModelConfig) -> int:
        """Return those of the angles, sines and cosines in float64, and of both in float32."""
        return config.context_length * config.resolved_head_dim * (2 * 8 + 4)

    @classmethod
    def kept_bytes_in_layer(cls, config: ModelConfig, seq: int) -> int:
        """Return those of the cosines and sines, once for queries and once for keys, in float32."""
        return 4 * seq * config.resolved_head_dim * 4

    def rotate(self, vectors: Tensor, positions: Tensor) -> Tensor:
        """Return the turned vectors; shapes as in ``Positions.rotate``."""
        cos = self.cos[positions].unsqueeze(1)  # (batch or 1, 1, seq, head_dim)
        sin = self.sin[positions].unsqueeze(1)
        first, second = vectors.chunk(2, dim=-1)
        quarter_turn = torch.cat((-second, first), dim=-1)
        return (vectors * cos + quarter_turn * sin).to(vectors.dtype)
