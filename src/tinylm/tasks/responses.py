"""Instruction tuning: what follows a prompt is learned, the prompt is only read.

The loss is the cross-entropy of the tokens of the response and of the ``<eos>`` after it; those of
the prompt are given and count nothing. A loss is divided by the number of response tokens, so that
a long response counts as much as its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinylm.data.windows import Batch, story_rows
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.tokenizers.base import EOS_ID, SOS_ID, Tokenizer
from tinylm.training.task import Task


@dataclass(frozen=True)
class Row:
    """A prompt with its response, as token ids."""

    ids: tuple[int, ...]
    """``<sos>``, prompt, response, ``<eos>``."""
    given: int
    """How many of the first are read and not learned."""


def row_of(tokenizer: Tokenizer, prompt: str, response: str) -> Row:
    """Return a prompt and a response as they are trained on; each is encoded alone."""
    first = [SOS_ID, *tokenizer.encode(prompt)]
    return Row((*first, *tokenizer.encode(response), EOS_ID), len(first))


class ResponseModelling(Task[GenerativeModel, Batch]):
    """Prompts with responses, of which the responses are learned."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        train: Sequence[Row],
        validation: Sequence[Row],
        source: str,
        batch_size: int,
    ) -> None:
        """Train on some rows and validate on others.

        Args:
            tokenizer: of both.
            train: trained on.
            validation: held out.
            source: fingerprint of both.
            batch_size: rows in a forward pass of a validation.
        """
        self.tokenizer = tokenizer
        self.train = train
        self.held_out = sorted(validation, key=lambda row: len(row.ids))  # little padding
        self.source = source
        self.batch_size = batch_size
        self.longest = max(len(row.ids) for row in (*train, *validation)) - 1

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.train)

    def batch(self, indices: npt.NDArray[np.int64]) -> Batch:
        """Return rows, padded on the right, (rows, longest - 1)."""
        return _batch([self.train[i] for i in indices])

    def loss(self, model: GenerativeModel, batch: Batch) -> tuple[Tensor, int]:
        """Return the summed loss of the responses; see ``Task.loss``."""
        return next_token_loss(model, batch)

    @torch.no_grad()
    def validate(self, model: GenerativeModel) -> float:
        """Return the loss of the responses held out, in nats a token."""
        device = model.embedding.weight.device
        total, count = 0.0, 0
        with evaluating(model):
            for first in range(0, len(self.held_out), self.batch_size):
                batch = _batch(self.held_out[first : first + self.batch_size]).to(device)
                loss, targets = next_token_loss(model, batch)
                total, count = total + float(loss), count + targets
        return total / count


def _batch(rows: Sequence[Row]) -> Batch:
    return story_rows([row.ids for row in rows], [row.given for row in rows])
