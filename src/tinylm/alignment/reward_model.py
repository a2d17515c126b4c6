"""A model of preferences: a decoder whose last map gives one number, how good a text is.

The head reads the residual stream at the last real token, the only one that has seen the whole
text (Ouyang et al. 2022, section 3.5). It is linear and has no bias: preferences of responses to
one prompt say nothing of a constant. What is added to all rewards is set once, after training
(``offset``), so that their mean is 0 on the training prompts. The head starts from
N(0, 1 / (hidden + 1)), as in Stiennon et al. 2020.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tinylm.errors import AlignmentError
from tinylm.evaluation.classification import for_each_text
from tinylm.model.base import GenerativeModel, Model
from tinylm.model.changes import change
from tinylm.model.headed import Headed
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.last_token import last_real
from tinylm.model.loss import at_least_float32

CHANGE = "reward"
"""Name of the head in the registry CHANGES."""


class RewardModel(Headed):
    """A decoder with a head of one output: token ids in, a reward out."""

    offset: Tensor
    """Subtracted from every reward, a scalar."""

    def __init__(self, body: GenerativeModel) -> None:
        """Put a head on a decoder; its weights come from torch's global random state.

        Args:
            body: changed in place: its last map takes no part, and is not trained.
        """
        super().__init__()
        if not body.config.tie_embeddings:
            body.unembedding.requires_grad_(False)
        self.body = body
        self.head_change = change(CHANGE)
        hidden = body.config.hidden_size
        self.head = nn.Linear(hidden, 1, bias=False)
        nn.init.normal_(self.head.weight, std=1 / math.sqrt(hidden + 1))
        self.register_buffer("offset", torch.zeros(()))
        table = body.embedding.weight
        self.to(table.device, table.dtype)

    def forward(self, ids: Tensor, real: Tensor | None = None) -> Tensor:
        """Return rewards, (batch,), in float32 at least.

        Args:
            ids: (batch, seq), padded on either side; or features, (batch, hidden), that
                ``features`` has returned.
            real: (batch, seq), False where a token is padding; None: all are real.
        """
        return self.unembed(self.residual(ids, real=real))[:, 0, 0]

    def residual(self, ids: Tensor, *, real: Tensor | None = None) -> Tensor:
        """Return what the head is multiplied with, (batch, 1, hidden); see ``forward``."""
        return (ids if ids.is_floating_point() else self.features(ids, real))[:, None]

    def unembed(self, x: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Return rewards, (..., 1), of what ``residual`` returns."""
        return at_least_float32(self.head(x)) - self.offset

    def features(self, ids: Tensor, real: Tensor | None = None) -> Tensor:
        """Return the residual stream at the last real token, (batch, hidden)."""
        x = self.body.residual(ids, real=real)
        return x[torch.arange(len(x), device=x.device), last_real(ids, real)]


def rewards_of(
    model: RewardModel, texts: Sequence[Sequence[int]], batch_size: int = 32
) -> list[float]:
    """Return the reward of each text, ``<sos>`` first.

    Texts of similar lengths share a batch, so that little is computed for padding.

    Args:
        model: any mode; it is evaluated without dropout and put back.
        texts: ids of prompt and response.
        batch_size: texts in one forward pass.
    """
    rewards: list[float] = for_each_text(model, model, texts, batch_size).tolist()
    return rewards


def made_again(model: Model, settings: Mapping[str, Any]) -> Model:
    """Put a reward model's head on the model, whose adapter is attached."""
    if settings:
        raise AlignmentError(f"a head for rewards has no setting {next(iter(settings))}")
    if not isinstance(model, GenerativeModel):
        raise AlignmentError(f"a {type(model).__name__} comes last: it gets no head for rewards")
    return RewardModel(model)
