"""Attention with linear biases, ALiBi (Press, Smith and Lewis 2022, section 3).

The score of a key gets ``-slope * distance``, with a slope for each head: the geometric sequence
``2^(-8/h), 2^(-16/h), …, 2^-8`` for h heads, a power of two. For another number of heads it is that
of the next lower power of two, filled up by every other slope of the next higher one, as in the
paper's code. In both directions the distance counts either way. No parameters and no tables; one
addition a score.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.model.positions import Explanation, Positions


def slopes(num_heads: int) -> list[float]:
    """Return the slope of each head, positive."""
    lower = 2 ** (num_heads.bit_length() - 1)
    first = [2 ** (-8 * (head + 1) / lower) for head in range(lower)]
    higher = [2 ** (-4 * (head + 1) / lower) for head in range(2 * lower)]
    return first + higher[::2][: num_heads - lower]


class AlibiPositions(Positions):
    """Lowers the score of a key in proportion to its distance."""

    label = "linear biases"
    slopes: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.register_buffer("slopes", torch.tensor(slopes(config.num_heads)), persistent=False)

    @classmethod
    def explanation(cls, config: ModelConfig) -> Explanation:
        """Return what the report says of it."""
        heads = [f"{slope:.2g}" for slope in slopes(config.num_heads)]
        steepness = (
            f"from {max(heads, key=float)} to {min(heads, key=float)}"
            if len(heads) > 1
            else f"{heads[0]} here"
        )
        return Explanation(
            "The order of the tokens enters in the attention: from each score the distance between "
            f"query and key is subtracted, times a slope that differs by head, {steepness} "
            "[[press2022]], so that near tokens count for more, in some heads much and in others "
            "little."
        )

    @classmethod
    def table_bytes(cls, config: ModelConfig) -> int:
        """Return those of the slopes in float32."""
        return 4 * config.num_heads

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """Return the biases; shapes as in ``Positions.bias``."""
        distance = (query_positions[:, None, :, None] - key_positions[:, None, None, :]).abs()
        return -self.slopes[:, None, None] * distance  # (batch or 1, heads, queries, keys)
