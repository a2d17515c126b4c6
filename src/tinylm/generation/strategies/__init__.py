"""Decoding strategies, one a file.

A chooser maps the logits of the next token to the next ids; the engine owns the loop.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from tinylm.config import GenerationConfig


class Chooser(Protocol):
    """Made from ``(config, batch_size)``, then asked once a step."""

    def __init__(self, config: GenerationConfig, batch_size: int) -> None:
        """Prepare for a batch."""
        ...

    def choose(self, logits: Tensor, seen: Tensor, step: int, rows: Tensor) -> Tensor:
        """Return the next ids.

        Args:
            logits: (growing, vocab), float32 or float64; forbidden tokens are -inf.
            seen: (growing, vocab), bool, True where the row's text so far holds the token.
            step: number of tokens generated before.
            rows: (growing,), int64, the numbers of these sequences, which do not change when
                others end and are left out.

        Returns:
            (growing,), int64.
        """
        ...
