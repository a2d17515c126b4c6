"""Sinusoidal positions (Vaswani et al. 2017, section 3.5).

``PE[p, 2i] = sin(p / 10000^(2i/hidden))`` and ``PE[p, 2i+1] = cos(p / 10000^(2i/hidden))``.
No parameters. Every row has norm ``sqrt(hidden / 2)``, 12.25 at hidden size 300.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.model.positions import Explanation, Positions


def sinusoidal_table(num_positions: int, hidden_size: int) -> Tensor:
    """Return the table, (num_positions, hidden_size), computed in float64."""
    position = torch.arange(num_positions, dtype=torch.float64)[:, None]
    dimension = torch.arange(0, hidden_size, 2, dtype=torch.float64)
    angle = position / 10_000 ** (dimension / hidden_size)  # (num_positions, ceil(hidden / 2))
    pairs = torch.stack((angle.sin(), angle.cos()), dim=-1)
    return pairs.flatten(1)[:, :hidden_size]


class SinusoidalPositions(Positions):
    """Adds the fixed sinusoidal table to the embeddings."""

    label = "sinusoidal positions"
    table: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        table = sinusoidal_table(config.context_length, config.hidden_size)
        self.register_buffer("table", table.to(torch.get_default_dtype()), persistent=False)

    @classmethod
    def explanation(cls, config: ModelConfig) -> Explanation:
        """Return what the report says of it."""
        return Explanation(
            "Attention by itself takes no account of the order of the tokens, so a fixed encoding "
            "of sine and cosine waves with increasing wavelengths is added at each position $p$ "
            "[[vaswani2017]]:",
            "P_(p, 2i) = sin(p / 10000^(2i slash d)), wide "
            f"P_(p, 2i+1) = cos(p / 10000^(2i slash d)), wide d = {config.hidden_size}",
            "It has no parameters. The encoding of position $p + k$ is a rotation of that of "
            "position $p$ which depends only on $k$; Vaswani et al. [[vaswani2017]] expected this "
            "to make attention to relative positions easy to learn.",
        )

    @classmethod
    def table_bytes(cls, config: ModelConfig) -> int:
        """Return those of angle, sine and cosine a pair in float64, and of the table in float32."""
        return config.context_length * config.hidden_size * (3 * 8 // 2 + 4)

    def add(self, embeddings: Tensor, positions: Tensor) -> Tensor:
        """Return ``embeddings + table[positions]``; shapes as in ``Positions.add``."""
        return embeddings + nn.functional.embedding(positions, self.table)
