"""Learned positions: one trained vector a position, as in GPT-2 (Radford et al. 2019).

Costs ``context_length * hidden_size`` parameters and knows nothing beyond the context.
"""

from __future__ import annotations

from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.model.positions import Explanation, Positions


class LearnedPositions(Positions):
    """Adds a trained table to the embeddings; initialised N(0, 0.02), as GPT-2 is."""

    label = "learned positions"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.table = nn.Embedding(config.context_length, config.hidden_size)
        nn.init.normal_(self.table.weight, std=0.02)

    @classmethod
    def explanation(cls, config: ModelConfig) -> Explanation:
        """Return what the report says of it."""
        return Explanation(
            f"A learned vector for each of the {config.context_length} positions is added "
            "[[radford2019]], because attention by itself takes no account of the order of "
            "the tokens."
        )

    @classmethod
    def num_parameters(cls, config: ModelConfig) -> int:
        """Return those of the table."""
        return config.context_length * config.hidden_size

    @classmethod
    def kept_bytes(cls, config: ModelConfig, seq: int) -> int:
        """Return those of the positions, int64, whose rows get the gradient."""
        return 8 * seq

    def add(self, embeddings: Tensor, positions: Tensor) -> Tensor:
        """Return ``embeddings + table[positions]``; shapes as in ``Positions.add``."""
        added: Tensor = embeddings + self.table(positions)
        return added
