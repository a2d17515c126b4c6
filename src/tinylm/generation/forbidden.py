"""Which tokens a text may not go on with, whatever the strategy."""

from __future__ import annotations

import torch
from torch import Tensor

from tinylm.config import GenerationConfig
from tinylm.errors import GenerationError
from tinylm.generation.filters import REMOVED
from tinylm.generation.results import SpecialIds


def forbidden_ids(
    vocab_size: int, config: GenerationConfig, special: SpecialIds, num_new: int
) -> list[int]:
    """Return the ids that a text may not go on with, in order.

    Args:
        vocab_size: how many there are.
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
    if len(ids) >= vocab_size:
        raise GenerationError(
            f"a vocabulary of {vocab_size} tokens leaves none that may be generated: "
            "allow <unk>, set generation.min_new_tokens = 0 or train with more words"
        )
    return sorted(ids)


def forbid(logits: Tensor, config: GenerationConfig, special: SpecialIds, num_new: int) -> Tensor:
    """Return the logits with -inf for forbidden tokens; the others are not renormalised.

    Args:
        logits: (batch, vocab), or log-probabilities.
        config: as for ``forbidden_ids``, whose error it raises.
        special: as there.
        num_new: as there.
    """
    ids = forbidden_ids(logits.shape[-1], config, special, num_new)
    return logits.index_fill(-1, torch.tensor(ids, device=logits.device), REMOVED)
