"""What a text so far is worth: a linear map of the residual stream, trained beside the policy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_TIMES_THE_RATE = 10.0
"""Of the policy's learning rate: the map begins at 0, the policy is nearly where it shall be."""


class ValueHead(nn.Module):
    """One number for every token of a text: what the response will have earned in the end.

    Its gradient ends at the residual stream, so that predicting moves no policy. It begins with 0.
    """

    rate_factors = {"weight": _TIMES_THE_RATE, "bias": _TIMES_THE_RATE}  # noqa: RUF012

    def __init__(self, hidden_size: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(hidden_size, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros((), dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Return the value of each position, (...), of a residual stream, (..., hidden)."""
        x = x.detach().to(self.weight.dtype)
        return x @ self.weight + self.bias
