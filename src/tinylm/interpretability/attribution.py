"""Direct logit attribution: what each part of the model adds to a logit.

A logit is linear in what the unembedding reads, and with the scales of the norms frozen at what
they were, that is the sum of what the parts wrote (``interpretability.parts``). So the logit, or
the difference of two, is exactly the sum of what every head, feed-forward part, bias and the
embedding add to it (Elhage et al. 2021).

In a pre-norm model only the scale of the final norm is frozen, which all parts share: what a part
adds is its own. In a post-norm model the scales of all norms from the part's own on are frozen. The
sum is as exact, but a part's share holds for these scales alone: without the part they would be
others, so it tells where the logit came from, and not what it would be without the part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tinylm.errors import ConfigError, shown
from tinylm.interpretability.parts import parts_of
from tinylm.interpretability.trace import Trace
from tinylm.interpretability.weights import affine

UNEMBEDDING_BIAS = "unembedding.bias"
"""The part that no part writes: the bias of the logits."""

Against = Tensor | Literal["mean"] | None


@dataclass(frozen=True, eq=False)
class Attribution:
    """What each part adds to one logit, or difference of logits, at every position."""

    names: tuple[str, ...]
    """Those of ``parts_of``, and ``unembedding.bias``."""
    values: Tensor
    """(parts, batch, seq); their sum over the parts is the logit or the difference."""

    def __getitem__(self, name: str) -> Tensor:
        """Return what one part adds, (batch, seq).

        Raises:
            ConfigError: if there is no such part.
        """
        if name not in self.names:
            raise ConfigError(f"there is no part {name!r}; there are: {', '.join(self.names)}")
        return self.values[self.names.index(name)]

    def at(self, position: int, text: int = 0) -> dict[str, float]:
        """Return name -> what the part adds at one position; -1 is the last."""
        return dict(zip(self.names, self.values[:, text, position].tolist(), strict=True))


@torch.no_grad()
def logit_attribution(trace: Trace, answers: Tensor, others: Against = None) -> Attribution:
    """Return what each part adds to a logit at every position.

    Args:
        trace: of all activations.
        answers: ids of the tokens whose logits they are, (batch, seq) or what broadcasts to it.
        others: ids of tokens whose logits are subtracted, of the same kind; ``"mean"``: the mean
            logit over the vocabulary; None: nothing, the logits are those of the model.

    Raises:
        ConfigError: if an id is outside the vocabulary, or as ``parts_of``.
    """
    weight, bias = affine(trace.model.unembedding, trace.model.config.hidden_size)
    directions, shifts = _readout(
        weight, bias, answers, trace
    )  # (batch, seq, hidden), (batch, seq)
    if isinstance(others, str):
        if others != "mean":
            raise ConfigError(f"others = {shown(others)}: give token ids, or 'mean'")
        directions, shifts = directions - weight.mean(-1), shifts - bias.mean()
    elif others is not None:
        less, shift = _readout(weight, bias, others, trace)
        directions, shifts = directions - less, shifts - shift
    parts = parts_of(trace)
    values = torch.einsum("pbsh,bsh->pbs", parts.values, directions.to(parts.values.dtype))
    return Attribution(
        (*parts.names, UNEMBEDDING_BIAS), torch.cat([values, shifts[None].to(values.dtype)])
    )


def _readout(weight: Tensor, bias: Tensor, ids: Tensor, trace: Trace) -> tuple[Tensor, Tensor]:
    """Return the columns of the unembedding that give the logits of tokens, and their biases."""
    vocab_size = len(bias)
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
        wrong = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
        raise ConfigError(f"token id {wrong} is outside the vocabulary of {vocab_size}")
    ids = ids.to(bias.device).expand(trace.ids.shape)
    return weight.T[ids], bias[ids]
