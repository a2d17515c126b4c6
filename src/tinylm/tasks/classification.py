"""Sequence classification: every text has a label, and a classifier's head gives it.

Where the body is frozen and no [CLS] is learned, what the head reads never changes: it is computed
once (``read_once``), and an epoch then costs little.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinylm.data.windows import Batch, pad_rows
from tinylm.evaluation.classification import (
    ClassificationScores,
    class_log_probabilities,
    classification_scores,
    for_each_text,
)
from tinylm.finetuning.classification import Classifier
from tinylm.model.decoder import evaluating
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.tokenizers.base import Tokenizer
from tinylm.training.task import Task

Labelled = tuple[Sequence[Sequence[int]], Sequence[int]]
"""Ids of each text, and the index of its label."""


class SequenceClassification(Task[Classifier, Batch]):
    """Labelled texts, padded on the right; those held out are classified at every validation."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        train: Labelled,
        validation: Labelled,
        labels: Sequence[str],
        source: str,
        batch_size: int,
    ) -> None:
        """Train on labelled texts and validate on others.

        Args:
            tokenizer: of the texts.
            train: trained on.
            validation: held out.
            labels: their names, in the order of the logits.
            source: fingerprint of the texts.
            batch_size: texts in a forward pass of a validation.
        """
        self.tokenizer = tokenizer
        self.source = source
        self.rows, targets = train
        self.targets = torch.tensor(targets)
        self.held_out, self.true = validation
        self.labels = tuple(labels)
        self.batch_size = batch_size
        self.scores: ClassificationScores | None = None
        """Scores of the last validation."""
        self._features: tuple[Tensor, Tensor] | None = None  # of both splits, (texts, hidden)

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.rows)

    def batch(self, indices: npt.NDArray[np.int64]) -> Batch:
        """Return texts, or what the head reads of them; their labels are (batch, 1)."""
        chosen = torch.from_numpy(indices)
        if self._features is not None:
            return Batch(self._features[0][chosen], self.targets[chosen, None])
        ids, real = pad_rows([self.rows[i] for i in indices])
        return Batch(ids, self.targets[chosen, None], real)

    def loss(self, model: Classifier, batch: Batch) -> tuple[Tensor, int]:
        """Return the summed cross-entropy of the labels, in nats; see ``Task.loss``."""
        return next_token_loss(model, batch)

    @torch.no_grad()
    def validate(self, model: Classifier) -> float:
        """Return the validation loss, in nats a text, in float32; ``scores`` says more."""
        device = model.head.weight.device
        with torch.autocast(device.type, enabled=False):
            if self._features is None:
                logs = class_log_probabilities(model, self.held_out, self.batch_size)
            else:
                with evaluating(model):
                    logs = model(self._features[1].to(device)).log_softmax(-1).cpu()
        self.scores = classification_scores(self.true, logs.argmax(1).tolist(), self.labels)
        return -float(logs[torch.arange(len(self.true)), torch.tensor(self.true)].mean())

    def read_once(self, model: Classifier) -> None:
        """Compute what the head reads of every text, for a body that stays as it is."""
        train, held_out = (
            for_each_text(model, model.features, rows, self.batch_size)
            for rows in (self.rows, self.held_out)
        )
        self._features = train, held_out
