"""Filters of the next token's distribution: logits in, logits out, (batch, vocab) each.

Removed tokens get -inf. Every filter keeps at least one token a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

REMOVED = float("-inf")


def temperature(logits: Tensor, value: float) -> Tensor:
    """Divide by ``value``: below 1 sharpens, above 1 flattens (Ackley et al. 1985).

    The largest logit is moved to 0 first, which changes no probability and lets no temperature,
    however small, overflow to infinity.
    """
    return (logits - logits.amax(-1, keepdim=True)) / value


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the ``k`` likeliest tokens (Fan, Lewis and Dauphin 2018); ties with the k-th stay."""
    smallest = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < smallest, REMOVED)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest likeliest tokens whose probability reaches ``p``.

    The token that crosses ``p`` stays (Holtzman et al. 2020, section 3.1).
    """
    ordered, order = logits.sort(descending=True, stable=True)
    probability = ordered.softmax(-1)
    before = probability.cumsum(-1) - probability  # of all likelier tokens
    removed = before >= p
    removed[:, 0] = False
    return logits.masked_fill(removed.scatter(-1, order, removed), REMOVED)


def min_p(logits: Tensor, share: float) -> Tensor:
    """Keep tokens at least ``share`` times as likely as the likeliest (Nguyen et al. 2024)."""
    log_probability = logits.log_softmax(-1)
    share_of_largest = torch.tensor(share, dtype=logits.dtype).log()
    threshold = log_probability.amax(-1, keepdim=True) + share_of_largest
    return logits.masked_fill(log_probability < threshold, REMOVED)


def repetition_penalty(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens that were seen less likely (Keskar et al. 2019, section 4.1).

    Positive logits of seen tokens are divided by ``penalty`` and negative ones multiplied by it.

    Args:
        logits: (batch, vocab).
        seen: (batch, vocab), bool, True where the row's text holds the token.
        penalty: above 1 discourages repetition.
    """
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, penalised, logits)


def seen_tokens(
    texts: Sequence[Sequence[int]], vocab_size: int, device: torch.device | str | None = None
) -> Tensor:
    """Return which tokens each text holds, (texts, vocab), bool: what the penalty is given."""
    seen = torch.zeros(len(texts), vocab_size, dtype=torch.bool, device=device)
    for i, text in enumerate(texts):
        seen[i, torch.tensor(list(text), device=device)] = True
    return seen
