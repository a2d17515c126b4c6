"""Log-probabilities of texts under the start, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from tinylm.alignment.log_probabilities import ROWS, Text, summed_log_probabilities
from tinylm.model.base import GenerativeModel


class StartSums:
    """The log-probability of each response under the start, summed over its tokens, in nats."""

    def __init__(self, start: GenerativeModel, texts: Iterable[Text], rows: int = ROWS) -> None:
        """Take the texts; none is read yet.

        Args:
            start: not trained; it is read in eval mode.
            texts: each is read once, however often it stands there.
            rows: texts that are read at once.
        """
        self.start = start
        self.rows = rows
        self.places = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        self.sums: Tensor | None = None
        """(texts,), float32 at least; None: not computed yet."""

    def __len__(self) -> int:
        """Return the number of different texts."""
        return len(self.places)

    def compute(self, progress: Callable[[float], None] = lambda done: None) -> Tensor:
        """Read all texts; ``progress`` gets how many are done."""
        sums = summed_log_probabilities(
            self.start, list(self.places), rows=self.rows, progress=progress
        )
        kind = torch.promote_types(self.start.embedding.weight.dtype, torch.float32)
        self.sums = sums.to(kind)
        return self.sums

    def restore(self, sums: Tensor | None) -> None:
        """Take what was computed before, if it is of so many texts."""
        if sums is not None and sums.shape == (len(self),):
            self.sums = sums

    def of(self, texts: Sequence[Text]) -> Tensor:
        """Return the sums of texts, (texts,); computed now if they were not before."""
        sums = self.compute() if self.sums is None else self.sums
        return sums[[self.places[text] for text in texts]]
