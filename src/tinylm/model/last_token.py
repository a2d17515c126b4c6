"""Where a text ends: the place of each row's last real token."""

from __future__ import annotations

import torch
from torch import Tensor


def last_real(ids: Tensor, real: Tensor | None) -> Tensor:
    """Return the place of each row's last real token, (batch,).

    Told by what is real, not by ids: padding may stand on either side and be the id of the end.

    Args:
        ids: (batch, seq).
        real: (batch, seq), False where a token is padding; None: all are real.
    """
    if real is None:
        return torch.full((len(ids),), ids.shape[1] - 1, device=ids.device)
    places = torch.arange(ids.shape[1], device=ids.device)
    return (real * places).amax(1)
