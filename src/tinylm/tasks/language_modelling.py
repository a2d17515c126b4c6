"""Language modelling: every token is predicted from those before it in its window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tinylm.data.windows import IGNORED, Batch, Windows
from tinylm.evaluation.perplexity import SplitLoss, split_loss
from tinylm.model.base import GenerativeModel, Model
from tinylm.tokenizers.base import Tokenizer
from tinylm.training.task import Task


def next_token_loss(model: Model, batch: Batch) -> tuple[Tensor, int]:
    """Return the summed cross-entropy of a batch's labels, in nats, and how many there are."""
    x = model.read(batch)
    return model.summed_loss(x, batch.labels, IGNORED), batch.num_targets


class LanguageModelling(Task[GenerativeModel, Batch]):
    """Windows over the joined stories of a training split, or its pairs; and of a validation split.

    What of a pair is learned is its windows' to say (``data.windows.PairRows``).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        windows: Windows,
        validation: Windows,
        batch_size: int,
        subset: Sequence[int] | None = None,
        measure_training: bool = False,
    ) -> None:
        """Train on one split and validate on another.

        Args:
            tokenizer: of both.
            windows: trained on.
            validation: held out.
            batch_size: windows in a forward pass of a validation.
            subset: windows that a validation reads; None: all.
            measure_training: whether the loss on as many training windows is measured with every
                validation, so that the two can be compared.
        """
        self.tokenizer = tokenizer
        self.windows = windows
        self.validation = validation
        self.batch_size = batch_size
        self.subset = subset
        self.measure_training = measure_training
        self.sample = windows.fixed_subset(len(validation) if subset is None else len(subset))
        self.losses: dict[str, SplitLoss] = {}
        """What the last validation measured: ``validation``, and ``training`` where it is."""
        self.source = windows.tokens.header.corpus
        self.longest = windows.longest

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.windows)

    def batch(self, indices: npt.NDArray[np.int64]) -> Batch:
        """Return windows by their indices."""
        return self.windows.batch(indices)

    def loss(self, model: GenerativeModel, batch: Batch) -> tuple[Tensor, int]:
        """Return the summed loss of the tokens that follow; see ``Task.loss``."""
        return next_token_loss(model, batch)

    def validate(self, model: GenerativeModel) -> float:
        """Return the validation loss, in nats a token."""
        loss = self._shared(model, self.validation, self.subset)
        self.losses["validation"] = loss
        return loss.mean

    def training_loss(self, model: GenerativeModel) -> float | None:
        """Return the loss of the sample, in nats a token, or None: it is not measured."""
        if not self.measure_training:
            return None
        loss = self._shared(model, self.windows.judged, self.sample)
        self.losses["training"] = loss
        return loss.mean

    def _shared(
        self, model: GenerativeModel, windows: Windows, chosen: Sequence[int] | None
    ) -> SplitLoss:
        """Return the loss of windows, of which every process measures a part."""
        indices = np.arange(len(windows)) if chosen is None else np.asarray(chosen)
        own = np.array_split(indices, self.processes.size)[self.processes.rank]
        loss = split_loss(model, windows, self.batch_size, own)
        assert loss.windows is not None
        return SplitLoss.of(self.processes.joined(loss.windows))
