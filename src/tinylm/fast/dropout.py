"""Dropout, quick: the mask is not kept but computed again, backwards, from what it follows from."""

from __future__ import annotations

from torch import Tensor

from tinylm.fast import loops
from tinylm.model.dropout import Dropout


class FastDropout(Dropout):
    """The same masks in one pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``, any shape, with numbers dropped, or ``x`` itself in evaluation."""
        if self.acts and loops.suit(x):
            return loops.dropout.dropout(x, *self.draw())
        return super().forward(x)
