"""Which tokens a text may not go on with, whatever the strategy."""

from __future__ import annotations

import torch
from torch import Tensor

from tinylm.config import GenerationConfig
from tinylm.errors import GenerationError
from tinylm.generation.filters import REMOVED
from tinylm.generation.results import SpecialIds


def forbid(logits: Tensor, config: GenerationConfig, special: SpecialIds, num_new: int) -> Tensor:
    """Return the logits with -inf for forbidden tokens; the others are not renormalised.

    Args:
        logits: (batch, vocab), or log-probabilities.
        config: ``allow_unk`` and ``min_new_tokens``.
        special: ``<pad>`` and ``<sos>`` are always forbidden, ``<unk>`` unless it is allowed, and
            ``<eos>`` until there are ``min_new_tokens`` new tokens.
        num_new: new tokens that each row has so far.

    Raises:
        GenerationError: if that leaves no token.
    """
    ids = {special.pad, special.sos}
    if not config.allow_unk:
        ids.add(special.unk)
    if num_new < config.min_new_tokens:
        ids.add(special.eos)
    if len(ids) >= logits.shape[-1]:
        raise GenerationError(
            f"a vocabulary of {logits.shape[-1]} tokens leaves none that may be generated: "
            "allow <unk>, set generation.min_new_tokens = 0 or train with more words"
        )
    return logits.index_fill(-1, torch.tensor(sorted(ids), device=logits.device), REMOVED)
