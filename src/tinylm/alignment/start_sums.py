"""Log-probabilities of texts under the start, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from tinylm.alignment.log_probabilities import token_log_probabilities
from tinylm.data.windows import Batch, story_rows
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating

Text = tuple[tuple[int, ...], tuple[int, ...]]
"""A prompt, ``<sos>`` first, and a response to it."""


ROWS = 32
"""Texts that are read at once."""


def text_rows(texts: Sequence[Text]) -> Batch:
    """Return texts as padded rows whose labels are the responses, (texts, longest - 1)."""
    return story_rows([[*a, *b] for a, b in texts], [len(prompt) for prompt, _ in texts])


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

    @torch.no_grad()
    def compute(self, progress: Callable[[float], None] = lambda done: None) -> Tensor:
        """Read all texts, those of a length together; ``progress`` gets how many are done."""
        device = self.start.embedding.weight.device
        texts = list(self.places)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i][0]) + len(texts[i][1]))
        parts: list[Tensor] = []
        with evaluating(self.start):
            for first in range(0, len(order), self.rows):
                rows = text_rows([texts[i] for i in order[first : first + self.rows]]).to(device)
                parts.append(token_log_probabilities(self.start, rows).sum(1).cpu())
                progress(min(first + self.rows, len(order)))
        sums = torch.cat(parts)
        self.sums = torch.empty_like(sums).index_copy(0, torch.tensor(order), sums)
        return self.sums

    def restore(self, sums: Tensor | None) -> None:
        """Take what was computed before, if it is of so many texts."""
        if sums is not None and sums.shape == (len(self),):
            self.sums = sums

    def of(self, texts: Sequence[Text]) -> Tensor:
        """Return the sums of texts, (texts,); computed now if they were not before."""
        sums = self.compute() if self.sums is None else self.sums
        return sums[[self.places[text] for text in texts]]
