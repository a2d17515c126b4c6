"""Linear maps whose weight is not an ``nn.Parameter``."""

from __future__ import annotations

from torch import Tensor, nn


class LinearLike(nn.Module):
    """A replacement of an ``nn.Linear`` that is adapted like one, such as a quantized map."""

    bias: nn.Parameter | None
    """(out,), or None."""

    @property
    def in_features(self) -> int:
        """Width of the input."""
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return self.weight.shape[0]

    @property
    def weight(self) -> Tensor:
        """The weight that does what the module does, (out, in), computed when asked for."""
        raise NotImplementedError

    @property
    def by_weight(self) -> bool:
        """Whether the map is ``x @ weight.T + bias`` and nothing else."""
        return True


LinearMap = nn.Linear | LinearLike
"""A linear map: ``weight``, (out, in), ``bias``, ``in_features``, ``out_features``."""
