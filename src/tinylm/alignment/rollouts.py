"""Responses that were drawn to learn from, and all that their losses need, token by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from tinylm.data.windows import IGNORED, Batch
from tinylm.errors import AlignmentError


@dataclass(frozen=True)
class Rollouts:
    """Responses, padded on the right; numbers of tokens stand where the token is a label."""

    ids: Tensor
    """Inputs, (responses, seq), int64."""
    labels: Tensor
    """The token that follows, (responses, seq); IGNORED where it is no token of the response."""
    real: Tensor
    """(responses, seq), False where an input is padding."""
    weights: Tensor
    """Of each token in the loss, (responses, seq)."""
    old: Tensor
    """Log-probabilities under the policy that drew them, (responses, seq)."""
    start: Tensor
    """Under the start."""
    advantages: Tensor
    """(responses, seq)."""
    values: Tensor
    """Predicted when they were drawn, (responses, seq); 0 without a value head."""
    returns: Tensor
    """What the values should have been, (responses, seq)."""
    by_tokens: bool = False
    """Whether a step is divided by its tokens, in place of its responses."""
    fresh: bool = False
    """Whether the policy is still the one that drew them."""

    @property
    def num_targets(self) -> int:
        """Responses, or their tokens."""
        return int(self.mask.sum()) if self.by_tokens else len(self.ids)

    @property
    def size(self) -> tuple[int, int] | None:
        """Rows and their tokens."""
        rows, seq = self.ids.shape
        return rows, seq

    @property
    def mask(self) -> Tensor:
        """(responses, seq), True at tokens of a response."""
        return self.labels != IGNORED

    @property
    def rows(self) -> Batch:
        """Inputs and labels."""
        given = self.mask.int().argmax(1) + 1  # up to the token before the first of the response
        return Batch(self.ids, self.labels, self.real, given)

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of what they are made of, by name."""
        copies = self._map(lambda each: each.clone(memory_format=torch.contiguous_format))
        return {name: each for name, each in vars(copies).items() if isinstance(each, Tensor)}

    def to(self, device: torch.device) -> Rollouts:
        """Return them on a device."""
        return self._map(lambda each: each.to(device))

    def take(self, places: Tensor, fresh: bool) -> Rollouts:
        """Return some of them, as long as the longest of these.

        Args:
            places: (taken,), int64.
            fresh: of the result.
        """
        length = int(self.real[places].sum(1).max())
        return replace(self._map(lambda each: each[places, :length]), fresh=fresh)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Rollouts:
        parts: dict[str, Any] = {
            name: change(each) for name, each in vars(self).items() if isinstance(each, Tensor)
        }
        return replace(self, **parts)


def restored(tensors: Mapping[str, Tensor], by_tokens: bool) -> Rollouts:
    """Return what ``Rollouts.tensors`` was of.

    Raises:
        AlignmentError: if it was of none.
    """
    names = [field.name for field in fields(Rollouts) if field.type == "Tensor"]
    parts: dict[str, Any] = {name: each for name, each in tensors.items() if name in names}
    if len(parts) < len(names) or len({each.shape for each in parts.values()}) > 1:
        raise AlignmentError(
            "the responses that were drawn are not all in the state of training: go on from an "
            "earlier step, or align anew"
        )
    return Rollouts(by_tokens=by_tokens, **parts)
